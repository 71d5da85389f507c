# Upload single file
hayhooks pipeline run rag_pipeline --file document.pdf --param 'query="Summarize this document"'
