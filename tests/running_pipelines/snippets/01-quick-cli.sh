hayhooks pipeline run my_pipeline --param 'query="What is Haystack?"'
