# Run with complex JSON
hayhooks pipeline run my_pipeline --param 'urls=["https://example.com"]' --param 'question="What is this about?"'
