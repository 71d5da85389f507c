# Upload multiple files
hayhooks pipeline run rag_pipeline --file doc1.pdf --file doc2.txt --param 'query="Compare these documents"'
