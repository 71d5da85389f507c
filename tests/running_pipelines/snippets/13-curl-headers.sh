# With custom headers
curl -X POST \
  http://localhost:1416/my_pipeline/run \
  -H 'Content-Type: application/json' \
  -H 'Authorization: Bearer token' \
  -d '{"query": "What is Haystack?"}'
