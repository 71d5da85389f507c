# Upload with additional parameters
hayhooks pipeline run rag_pipeline --file document.pdf --param 'query="Analyze"' --param 'temperature=0.5'
