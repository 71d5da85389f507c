import requests

# Upload one or more files
files = [
    ('files', open('document.pdf', 'rb')),
    # ('files', open('another.txt', 'rb')),
]
try:
    resp = requests.post(
        'http://localhost:1416/rag_pipeline/run',
        files=files,
        data={'query': 'Summarize this document'}
    )
    print(resp.json())
finally:
    for _, fh in files:
        fh.close()
