# Multiple files
curl -X POST \
  http://localhost:1416/my_pipeline/run \
  -F 'files=@doc1.pdf' \
  -F 'files=@doc2.txt' \
  -F 'query="Compare these documents"'
