import time

from hayhooks import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    def setup(self) -> None:
        self.prefix = "You said: "

    def run_api(self, text: str, top_k: int = 3, pause_s: float = 0.0) -> dict:
        """Answer with the text; sleep first when told to.

        Args:
            text: What to repeat.
            top_k: Given back as it came.
            pause_s: Seconds that a slow pipeline would take.
        """
        if pause_s:
            time.sleep(pause_s)
        return {"answer": self.prefix + text, "top_k": top_k}
