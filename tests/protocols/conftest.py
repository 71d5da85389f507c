from hypothesis import settings

settings.register_profile("untimed", settings.default, deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("untimed")
