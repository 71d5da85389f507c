from pathlib import Path
import requests

dir_path = Path('./documents')
file_list = [('files', open(str(p), 'rb')) for p in dir_path.rglob('*') if p.is_file()]
try:
    resp = requests.post(
        'http://localhost:1416/rag_pipeline/run',
        files=file_list,
        data={'query': 'Analyze all documents'}
    )
    print(resp.json())
finally:
    for _, fh in file_list:
        fh.close()
