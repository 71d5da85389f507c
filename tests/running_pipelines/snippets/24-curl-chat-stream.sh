# Streaming chat completion
curl -X POST \
  http://localhost:1416/v1/chat/completions \
  -H 'Content-Type: application/json' \
  -d '{
    "model": "my_pipeline",
    "messages": [
      {"role": "user", "content": "What is Haystack?"}
    ],
    "stream": true
  }'
