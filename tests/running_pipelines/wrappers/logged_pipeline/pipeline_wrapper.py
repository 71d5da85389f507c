"""The guide's wrapper with its own logging, word for word; what it leaves out stands above and below."""

from hayhooks import BasePipelineWrapper
from haystack import Pipeline, component
from haystack.components.builders import PromptBuilder


@component
class Llm:
    """Stands for a model: repeats the prompt."""

    @component.output_types(replies=list[str])
    def run(self, prompt: str) -> dict[str, list[str]]:
        if "unanswerable" in prompt:
            raise ValueError("this has no answer")
        return {"replies": [prompt]}


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

    def setup(self) -> None:
        self.pipeline = Pipeline()
        prompt = PromptBuilder(template="You asked: {{ query }}", required_variables="*")
        self.pipeline.add_component("prompt", prompt)
        self.pipeline.add_component("llm", Llm())
        self.pipeline.connect("prompt", "llm")
