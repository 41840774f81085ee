"""A pytest plugin: Hypothesis reports its first failing example. The search for a smaller one takes minutes."""

from hypothesis import Phase, settings

settings.register_profile("without_shrinking", phases=[Phase.explicit, Phase.generate])
settings.load_profile("without_shrinking")
