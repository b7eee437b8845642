//! The names of chat parameters: what of a line is sent, and what is the user's own.

/// Fields that are sent: the chat completions API's own, and those that servers of open models
/// add. Anything else is sent only if `--param` names it.
const CHAT_PARAMETERS: &[&str] = &[
    "audio",
    "cache_prompt",
    "chat_template_kwargs",
    "frequency_penalty",
    "function_call",
    "functions",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "min_p",
    "min_tokens",
    "modalities",
    "model",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "random_seed",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "safe_prompt",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "structured_outputs",
    "temperature",
    "tool_choice",
    "tools",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
];

/// Tells whether a field is sent, by its name or because the run's own parameters name it.
pub fn is_sent(key: &str, params: &[(String, String)]) -> bool {
    CHAT_PARAMETERS.binary_search(&key).is_ok() || params.iter().any(|(name, _)| name == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(CHAT_PARAMETERS.is_sorted());
    }
}
