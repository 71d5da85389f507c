"""The smallest wrapper: no pipeline, one parameter."""

from gateway import BasePipelineWrapper


class PipelineWrapper(BasePipelineWrapper):
    def run_api(self, name: str = "World") -> str:
        """Greet somebody.

        Args:
            name: Who is greeted.
        """
        return f"Hello, {name}!"
