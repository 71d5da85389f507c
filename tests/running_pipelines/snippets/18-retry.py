import requests
from requests.exceptions import RequestException

class PipelineExecutionError(Exception):
    pass

def run_pipeline_with_retry(pipeline_name, params, max_retries=3):
    """Run pipeline with retry logic"""
    url = f"http://localhost:1416/{pipeline_name}/run"

    for attempt in range(max_retries):
        try:
            response = requests.post(url, json=params)
            response.raise_for_status()
            return response.json()

        except RequestException as e:
            if attempt == max_retries - 1:
                raise PipelineExecutionError(f"Failed after {max_retries} attempts: {e}")

            print(f"Attempt {attempt + 1} failed, retrying...")
            import time
            time.sleep(2 ** attempt)  # Exponential backoff

    raise PipelineExecutionError("Max retries exceeded")

# Usage
try:
    result = run_pipeline_with_retry(
        "my_pipeline",
        {"query": "What is Haystack?"}
    )
    print(result)
except PipelineExecutionError as e:
    print(f"Pipeline execution failed: {e}")
