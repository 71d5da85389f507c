from hayhooks import BasePipelineWrapper
from haystack import Pipeline
from haystack.components.builders import PromptBuilder


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.pipeline = Pipeline()
        self.pipeline.add_component("prompt", PromptBuilder("You said: {{ text }}", required_variables=["text"]))

    def run_api(self, text: str, top_k: int = 3) -> dict:
        """Answer with the text by way of a pipeline of one component.

        Args:
            text: What to repeat.
            top_k: Given back as it came.
        """
        result = self.pipeline.run({"prompt": {"text": text}})
        return {"answer": result["prompt"]["prompt"], "top_k": top_k}
