# Upload directory
hayhooks pipeline run rag_pipeline --dir ./documents --param 'query="Analyze all documents"'
