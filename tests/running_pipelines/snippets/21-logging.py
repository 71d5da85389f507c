import time
from hayhooks import log

class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, query: str) -> str:
        start_time = time.time()
        log.info({"event": "pipeline_start", "pipeline": "my_pipeline", "query_len": len(query)})

        try:
            result = self.pipeline.run({"prompt": {"query": query}})
            duration = time.time() - start_time
            log.info({
                "event": "pipeline_complete",
                "pipeline": "my_pipeline",
                "duration_s": round(duration, 3)
            })
            return result["llm"]["replies"][0]
        except Exception as e:
            duration = time.time() - start_time
            log.error({
                "event": "pipeline_error",
                "pipeline": "my_pipeline",
                "duration_s": round(duration, 3),
                "error": str(e)
            })
            raise
