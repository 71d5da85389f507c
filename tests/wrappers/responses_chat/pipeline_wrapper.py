"""As `responses_kinds`, with only a chat method."""

from gateway import BasePipelineWrapper, get_last_user_message, streaming_generator
from tests.wrappers.responses_kinds.kinds import make


class PipelineWrapper(BasePipelineWrapper):
    def run_chat_completion(self, model, messages, body):
        return make(get_last_user_message(messages), streaming_generator)
