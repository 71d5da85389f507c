import requests

# Simple pipeline run
resp = requests.post(
    "http://localhost:1416/my_pipeline/run",
    json={"query": "What is Haystack?"}
)
print(resp.json())

# Chat completion
resp = requests.post(
    "http://localhost:1416/v1/chat/completions",
    json={
        "model": "chat_pipeline",
        "messages": [{"role": "user", "content": "What is Haystack?"}]
    }
)
print(resp.json())
