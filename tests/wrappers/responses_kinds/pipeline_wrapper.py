"""Gives what the last message of the user names, and prefers `run_response` to its chat method."""

from gateway import BasePipelineWrapper, get_last_user_input_text, streaming_generator

from .kinds import make


class PipelineWrapper(BasePipelineWrapper):
    def run_response(self, model, input_items, body):
        return make(get_last_user_input_text(input_items), streaming_generator)

    def run_chat_completion(self, model, messages, body):
        raise AssertionError("not for a response")
