//! Which model providers can be called, with which key and base URL, and which one answers.
//!
//! Built-in ones are a table (base URLs and variables as their own documentation gives them); a
//! `[providers.NAME]` section changes one or adds another that speaks a known form. Nothing here
//! opens a connection.

use crate::base::secret::Secret;
use crate::config::credentials::{self, Found};
use crate::config::draft::{Draft, Family, Field, Section};
use crate::config::keys::variable;
use crate::config::problems::{Source, hint};
use crate::config::url::{Url, is_private};
use crate::config::{Inputs, Setting};

/// A provider that can be called.
#[derive(Clone, Debug)]
pub struct Provider {
    pub name: String,
    pub form: Form,
    /// What [`endpoint`] joins paths to; `/v1` is there already where the form needs it.
    pub base_url: String,
    pub key: Option<Secret>,
    /// `OPENAI_API_KEY`, `file /x`, `credential openai_api_key`; empty without key.
    pub key_source: String,
    /// What it is asked for when nobody names a model.
    pub model: Option<String>,
    /// Whether it runs nearby and may have to load its model first.
    pub local: bool,
}

/// What answers messages no skill takes.
#[derive(Clone, Debug)]
pub struct Route {
    pub provider: Provider,
    pub model: String,
}

impl Route {
    /// `provider/model`, for people.
    pub fn label(&self) -> String {
        format!("{}/{}", self.provider.name, self.model)
    }
}

/// The shape of requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Chat completions.
    OpenAi,
    /// Messages.
    Anthropic,
}

impl Form {
    /// As written in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The base URL as the form needs it, without `/` at its end.
    fn base(self, url: &str) -> String {
        let url = url.trim_end_matches('/');
        let complete = match self {
            Self::OpenAi => has_path(url),
            Self::Anthropic => url.ends_with("/v1"),
        };
        format!("{url}{}", if complete { "" } else { "/v1" })
    }
}

/// A provider built in.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    /// Other names that mean it; none of them may be a vendor's name in the model ids of a router.
    pub aliases: &'static [&'static str],
    pub form: Form,
    pub base: &'static str,
    /// Variables that hold its key, the stronger one first, with the base URL of a key that has its
    /// own.
    pub keys: &'static [(&'static str, Option<&'static str>)],
    /// Variables that hold its base URL, the stronger one first.
    pub base_env: &'static [&'static str],
    pub model: Option<&'static str>,
    pub local: bool,
}

/// All providers built in.
pub static KNOWN: [Known; 20] = [
    Known {
        base_env: &["OPENAI_BASE_URL"],
        model: Some("gpt-4o"),
        ..remote("openai", "https://api.openai.com/v1", &[("OPENAI_API_KEY", None)])
    },
    Known {
        form: Form::Anthropic,
        base_env: &["ANTHROPIC_BASE_URL"],
        model: Some("claude-sonnet-4-20250514"),
        ..remote("anthropic", "https://api.anthropic.com", &[("ANTHROPIC_API_KEY", None)])
    },
    Known {
        aliases: &["gemini"],
        model: Some("gemini-2.5-pro"),
        ..remote(
            "google",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            &[
                ("GEMINI_API_KEY", None),
                ("GOOGLE_API_KEY", None),
                ("GOOGLE_GENERATIVE_AI_API_KEY", None),
            ],
        )
    },
    Known {
        model: Some("z-ai/glm-5"),
        ..remote("openrouter", "https://openrouter.ai/api/v1", &[("OPENROUTER_API_KEY", None)])
    },
    remote("groq", "https://api.groq.com/openai/v1", &[("GROQ_API_KEY", None)]),
    Known {
        model: Some("deepseek-chat"),
        ..remote("deepseek", "https://api.deepseek.com/v1", &[("DEEPSEEK_API_KEY", None)])
    },
    Known {
        model: Some("mistral-large-latest"),
        ..remote("mistral", "https://api.mistral.ai/v1", &[("MISTRAL_API_KEY", None)])
    },
    remote("xai", "https://api.x.ai/v1", &[("XAI_API_KEY", None)]),
    Known {
        aliases: &["zhipu", "zhipuai"],
        model: Some("glm-5"),
        ..remote(
            "zai",
            "https://api.z.ai/api/paas/v4",
            &[
                ("ZAI_API_KEY", None),
                ("ZHIPUAI_API_KEY", Some("https://open.bigmodel.cn/api/paas/v4")),
            ],
        )
    },
    Known {
        aliases: &["moonshotai"],
        model: Some("kimi-k2.5"),
        ..remote("moonshot", "https://api.moonshot.ai/v1", &[("MOONSHOT_API_KEY", None)])
    },
    remote("together", "https://api.together.xyz/v1", &[("TOGETHER_API_KEY", None)]),
    remote("fireworks", "https://api.fireworks.ai/inference/v1", &[("FIREWORKS_API_KEY", None)]),
    Known {
        model: Some("zai-glm-4.7"),
        ..remote("cerebras", "https://api.cerebras.ai/v1", &[("CEREBRAS_API_KEY", None)])
    },
    Known {
        model: Some("MiniMax-M3"),
        ..remote("minimax", "https://api.minimax.io/v1", &[("MINIMAX_API_KEY", None)])
    },
    Known {
        model: Some("qwen/qwen3.5-35b-a3b"),
        ..remote("novita", "https://api.novita.ai/openai/v1", &[("NOVITA_API_KEY", None)])
    },
    Known {
        aliases: &["hf"],
        base_env: &["HF_BASE_URL"],
        ..remote("huggingface", "https://router.huggingface.co/v1", &[("HF_TOKEN", None)])
    },
    Known {
        base_env: &["OLLAMA_BASE_URL", "OLLAMA_HOST"],
        keys: &[("OLLAMA_API_KEY", Some("https://ollama.com/v1"))],
        ..local("ollama", "http://127.0.0.1:11434/v1")
    },
    Known {
        aliases: &["llama-cpp"],
        base_env: &["LLAMACPP_BASE_URL"],
        keys: &[("LLAMACPP_API_KEY", None)],
        ..local("llamacpp", "http://127.0.0.1:8080/v1")
    },
    Known {
        base_env: &["VLLM_BASE_URL"],
        keys: &[("VLLM_API_KEY", None)],
        ..local("vllm", "http://127.0.0.1:8000/v1")
    },
    Known {
        aliases: &["lm-studio"],
        base_env: &["LMSTUDIO_BASE_URL"],
        keys: &[("LMSTUDIO_API_KEY", None)],
        ..local("lmstudio", "http://127.0.0.1:1234/v1")
    },
];

/// The built-in provider of a name or alias.
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| known.name == name || known.aliases.contains(&name))
}

/// The URL of `path` below a base URL, which may lack `/v1` and may end in `/`.
///
/// `/v1` is added only to a base without any path: others name their version themselves.
pub fn endpoint(base: &str, path: &str) -> String {
    format!("{}/{}", Form::OpenAi.base(base), path.trim_start_matches('/'))
}

/// A provider with what is needed to judge and to explain it.
#[derive(Debug)]
pub struct Candidate {
    pub provider: Provider,
    /// Who set its key, base URL, model and form.
    sources: [Source; 4],
    /// Name in problems, as the operator wrote it.
    written: String,
}

impl Candidate {
    /// Whether it can be called as it stands: the usual server of a remote provider refuses callers
    /// without key.
    pub fn is_usable(&self) -> bool {
        let [_, base, ..] = &self.sources;
        self.provider.key.is_some() || self.provider.local || *base != Source::Default
    }

    /// Adds its lines of `status --config`.
    pub fn settings(&self, out: &mut Vec<Setting>) {
        let not_set = || "not set".to_owned();
        let Provider { name, form, base_url, key, model, .. } = &self.provider;
        let [key_from, base_from, model_from, form_from] = &self.sources;
        let key = key.as_ref().map_or_else(not_set, |it| format!("set ({} bytes)", it.len()));
        let model = model.clone().unwrap_or_else(not_set);
        for (field, value, source) in [
            ("api-key", key, key_from),
            ("base-url", base_url.clone(), base_from),
            ("model", model, model_from),
            ("form", form.name().to_owned(), form_from),
        ] {
            let key = format!("providers.{name}.{field}");
            out.push(Setting { key, value, source: source.clone() });
        }
    }
}

/// The configured providers: those with a section, a key, or a base URL in the environment.
pub fn resolve(inputs: &Inputs<'_>, draft: &mut Draft) -> Vec<Candidate> {
    let sections = std::mem::take(&mut draft.sections);
    let mut out = Vec::new();
    for row in &KNOWN {
        let section = ours(&sections).find(|section| section.name == row.name);
        let found = credentials::find(Some(row), section, inputs, &mut draft.problems);
        if section.is_some() || found.is_some() {
            out.extend(candidate(Some(row), section, found, draft));
        }
    }
    for section in ours(&sections).filter(|section| known(&section.name).is_none()) {
        let found = credentials::find(None, Some(section), inputs, &mut draft.problems);
        out.extend(candidate(None, Some(section), found, draft));
    }
    draft.sections = sections;
    out
}

fn ours(sections: &[Section]) -> impl Iterator<Item = &Section> {
    sections.iter().filter(|section| section.family == Family::Providers)
}

/// What answers messages no skill takes, by `model.default` or because there is no choice.
///
/// Returns `None` with a problem added when that is not clear or cannot work, and without one when
/// no provider is configured and none is asked for.
pub fn choose(candidates: &[Candidate], inputs: &Inputs<'_>, draft: &mut Draft) -> Option<Route> {
    // With half of the providers unread, every further complaint would be an echo.
    if draft.problems.mention("providers.") || draft.problems.mention(DEFAULT) {
        return None;
    }
    match pick(candidates, inputs, draft) {
        Ok(route) => route,
        Err(rule) => {
            draft.problems.add(draft.source(DEFAULT).clone(), DEFAULT, rule);
            None
        }
    }
}

const DEFAULT: &str = "model.default";

const NO_KEYS: &[(&str, Option<&str>)] = &[];

const fn remote(
    name: &'static str,
    base: &'static str,
    keys: &'static [(&'static str, Option<&'static str>)],
) -> Known {
    let form = Form::OpenAi;
    Known { name, aliases: &[], form, base, keys, base_env: &[], model: None, local: false }
}

const fn local(name: &'static str, base: &'static str) -> Known {
    Known { local: true, ..remote(name, base, NO_KEYS) }
}

fn has_path(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split_once('/').is_some_and(|(_, path)| !path.trim_matches('/').is_empty())
}

fn candidate(
    known: Option<&Known>,
    section: Option<&Section>,
    found: Option<Found>,
    draft: &mut Draft,
) -> Option<Candidate> {
    let name = section.map_or_else(|| known.map_or("", |it| it.name), |it| it.name.as_str());
    let written = section.map_or(name, |it| it.written.as_str());
    let value = |field| section.and_then(|it| it.value(field));

    let key_base = found.as_ref().and_then(|found| found.base);
    let usual = key_base.or(known.map(|it| it.base));
    let (base, base_from) = match (value(Field::BaseUrl), usual) {
        (Some((base, source)), _) => (base.as_str(), source.clone()),
        (None, Some(base)) => (base, Source::Default),
        (None, None) => {
            let hint = hint(name, &mut KNOWN.iter().map(|it| it.name));
            let rule = format!("is not a built-in provider: give its base-url{hint}");
            let source = section.map_or(Source::Default, |it| it.source.clone());
            draft.problems.add(source, &format!("providers.{written}"), rule);
            return None;
        }
    };
    let usual_form = known.map_or(Form::OpenAi, |it| it.form);
    let (form, form_from) = match value(Field::Form) {
        Some((form, source)) if form == Form::Anthropic.name() => (Form::Anthropic, source.clone()),
        Some((_, source)) => (Form::OpenAi, source.clone()),
        None => (usual_form, Source::Default),
    };
    if form != usual_form && base_from == Source::Default {
        let rule = "another form has another address: give base-url too".to_owned();
        draft.problems.add(form_from, &format!("providers.{written}.form"), rule);
        return None;
    }
    let url = Url::read(base)?;
    if found.is_some() && !url.is_https && !is_private(url.host) {
        let rule = "would send the key unencrypted: use https".to_owned();
        draft.problems.add(base_from, &format!("providers.{written}.base-url"), rule);
        return None;
    }
    let is_cloud = base_from == Source::Default && key_base.is_some();
    let local = is_private(url.host) || (known.is_some_and(|it| it.local) && !is_cloud);
    let (model, model_from) = match value(Field::Model) {
        Some((model, source)) => (Some(model.clone()), source.clone()),
        None => (known.and_then(|it| it.model).map(str::to_owned), Source::Default),
    };
    let key_source = found.as_ref().map_or_else(String::new, Found::origin);
    let (key, key_from) = match found {
        Some(found) => (Some(found.secret), found.source),
        None => (None, Source::Default),
    };
    let base_url = form.base(base);
    Some(Candidate {
        provider: Provider { name: name.to_owned(), form, base_url, key, key_source, model, local },
        sources: [key_from, base_from, model_from, form_from],
        written: written.to_owned(),
    })
}

fn pick(
    candidates: &[Candidate],
    inputs: &Inputs<'_>,
    draft: &mut Draft,
) -> Result<Option<Route>, String> {
    let Some(wanted) = draft.config.model.default.clone() else {
        return match candidates {
            [] => Ok(None),
            [only] => routed(only, None, draft),
            several => Err(format!(
                "several providers are configured ({}): \
                 choose one with provider/model here or in {}",
                names(several),
                variable(DEFAULT)
            )),
        };
    };
    let (first, rest) = match wanted.split_once('/') {
        Some((first, rest)) => (first, (!rest.is_empty()).then_some(rest)),
        None => (wanted.as_str(), None),
    };
    // Only a known name is a provider: model ids of routers contain '/' too.
    let name = known(first).map_or(first, |it| it.name);
    if let Some(named) = candidates.iter().find(|it| it.provider.name == name) {
        return routed(named, rest, draft);
    }
    if let Some(row) = known(first) {
        let found = credentials::find(Some(row), None, inputs, &mut draft.problems);
        let Some(unset) = candidate(Some(row), None, found, draft) else { return Ok(None) };
        return routed(&unset, rest, draft);
    }
    match candidates {
        [] => Err(format!(
            "no provider is configured for it: write provider/model and set the provider's key, \
             such as OPENAI_API_KEY{}",
            hint(first, &mut KNOWN.iter().map(|it| it.name))
        )),
        [only] => routed(only, Some(&wanted), draft),
        several => Err(format!(
            "does not begin with a provider's name: \
             write it as provider/model with one of {}",
            names(several)
        )),
    }
}

fn routed(
    candidate: &Candidate,
    model: Option<&str>,
    draft: &mut Draft,
) -> Result<Option<Route>, String> {
    let Candidate { provider, written, .. } = candidate;
    if !candidate.is_usable() {
        let ways: Vec<&str> =
            known(&provider.name).map_or(&[][..], |it| it.keys).iter().map(|it| it.0).collect();
        let rule = format!(
            "no key found: set {} (also as NAME_FILE or systemd credential), \
             or api-key-file in [providers.{written}]",
            ways.join(" or ")
        );
        draft.problems.add(Source::Default, &format!("providers.{written}"), rule);
        return Ok(None);
    }
    let model = model.map(str::to_owned).or_else(|| provider.model.clone());
    let Some(model) = model else {
        return Err(format!(
            "provider {written} has no default model: \
             write {written}/MODEL here or with --model, or model in [providers.{written}]"
        ));
    };
    Ok(Some(Route { provider: provider.clone(), model }))
}

fn names(candidates: &[Candidate]) -> String {
    let names: Vec<&str> = candidates.iter().map(|it| it.provider.name.as_str()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Fixture;

    const SECRET: &str = "sk-canary-0123456789";

    fn route(fixture: &Fixture) -> (String, String) {
        let route = fixture.load().unwrap_or_else(|it| panic!("{it}")).route.unwrap();
        (route.provider.name, route.model)
    }

    fn pair(name: &str, model: &str) -> (String, String) {
        (name.to_owned(), model.to_owned())
    }

    #[test]
    fn paths_are_joined_once() {
        for (base, url) in [
            ("https://api.openai.com", "https://api.openai.com/v1/models"),
            ("https://api.openai.com/", "https://api.openai.com/v1/models"),
            ("https://api.openai.com/v1", "https://api.openai.com/v1/models"),
            ("https://api.openai.com/v1/", "https://api.openai.com/v1/models"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/models"),
            ("https://api.z.ai/api/paas/v4/", "https://api.z.ai/api/paas/v4/models"),
            ("https://g.example/v1beta/openai", "https://g.example/v1beta/openai/models"),
            ("https://api.minimax.io/anthropic/v1", "https://api.minimax.io/anthropic/v1/models"),
        ] {
            assert_eq!(endpoint(base, "/models"), url);
            assert_eq!(endpoint(base, "models"), url);
        }
    }

    #[test]
    fn the_other_form_always_has_its_version() {
        assert_eq!(
            Form::Anthropic.base("https://api.anthropic.com"),
            "https://api.anthropic.com/v1"
        );
        assert_eq!(Form::Anthropic.base("https://h/anthropic/"), "https://h/anthropic/v1");
        assert_eq!(Form::Anthropic.base("https://h/v1/"), "https://h/v1");
    }

    #[test]
    fn built_in_names_are_unique_and_their_bases_whole() {
        let mut names: Vec<&str> =
            KNOWN.iter().flat_map(|it| it.aliases.iter().copied().chain([it.name])).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for known in &KNOWN {
            let url = Url::read(known.base).unwrap();
            assert!(url.is_https || known.local, "{}", known.name);
            assert!(known.local || !known.keys.is_empty(), "{}", known.name);
        }
    }

    #[test]
    fn without_providers_there_is_no_route() {
        let loaded = Fixture::new().load().unwrap();
        assert!(loaded.route.is_none() && loaded.config.providers.is_empty());
    }

    #[test]
    fn the_only_provider_answers_with_its_default_model() {
        let fixture = Fixture::new().env("OPENAI_API_KEY", SECRET);
        assert_eq!(route(&fixture), pair("openai", "gpt-4o"));
        let provider = fixture.load().unwrap().route.unwrap().provider;
        assert_eq!(provider.base_url, "https://api.openai.com/v1");
        assert_eq!(provider.key_source, "OPENAI_API_KEY");
        assert!(!provider.local);
    }

    #[test]
    fn every_built_in_provider_works_by_its_first_variable() {
        for known in KNOWN.iter().filter(|known| !known.keys.is_empty()) {
            let wanted = format!("{}/some/model", known.name);
            let fixture =
                Fixture::new().env(known.keys[0].0, SECRET).env("TETHERLET_MODEL_DEFAULT", &wanted);
            assert_eq!(route(&fixture), pair(known.name, "some/model"));
        }
    }

    #[test]
    fn the_routing_table() {
        // What is configured, model.default, and the provider and model that follow.
        let one: &[(&str, &str)] = &[("OPENROUTER_API_KEY", SECRET)];
        let two: &[(&str, &str)] = &[("OPENROUTER_API_KEY", SECRET), ("GEMINI_API_KEY", SECRET)];
        let near: &[(&str, &str)] = &[("VLLM_BASE_URL", "http://10.0.0.5:8000")];
        for (env, default, name, model) in [
            (one, "openrouter/openai/gpt-5", "openrouter", "openai/gpt-5"),
            (one, "z-ai/glm-5", "openrouter", "z-ai/glm-5"),
            (one, "mystery", "openrouter", "mystery"),
            (one, "openrouter", "openrouter", "z-ai/glm-5"),
            (two, "gemini/gemini-2.5-flash", "google", "gemini-2.5-flash"),
            (two, "google", "google", "gemini-2.5-pro"),
            (near, "Qwen/Qwen3-8B", "vllm", "Qwen/Qwen3-8B"),
            (&[], "ollama/qwen3:4b", "ollama", "qwen3:4b"),
        ] {
            let mut fixture = Fixture::new().env("TETHERLET_MODEL_DEFAULT", default);
            for (name, value) in env {
                fixture = fixture.env(name, value);
            }
            assert_eq!(route(&fixture), pair(name, model), "{default}");
        }
    }

    #[test]
    fn an_unclear_choice_is_a_problem_with_its_fix() {
        let two = Fixture::new().env("OPENAI_API_KEY", SECRET).env("GROQ_API_KEY", SECRET);
        assert_eq!(
            two.problems(),
            ["model.default: several providers are configured (openai, groq): \
              choose one with provider/model here or in TETHERLET_MODEL_DEFAULT"]
        );
        let two = two.env("CODETETHER_DEFAULT_MODEL", "mystery/x");
        assert_eq!(
            two.problems(),
            ["environment CODETETHER_DEFAULT_MODEL: model.default: does not begin with a \
              provider's name: write it as provider/model with one of openai, groq"]
        );
    }

    #[test]
    fn a_provider_without_model_is_a_problem_with_its_fix() {
        let fixture = Fixture::new().env("GROQ_API_KEY", SECRET);
        assert_eq!(
            fixture.problems(),
            ["model.default: provider groq has no default model: \
              write groq/MODEL here or with --model, or model in [providers.groq]"]
        );
    }

    #[test]
    fn a_named_provider_without_key_is_a_problem_with_its_fix() {
        let fixture = Fixture::with("[model]\ndefault = \"gemini/gemini-2.5-pro\"\n");
        assert_eq!(
            fixture.problems(),
            ["providers.google: no key found: set GEMINI_API_KEY or GOOGLE_API_KEY or \
              GOOGLE_GENERATIVE_AI_API_KEY (also as NAME_FILE or systemd credential), \
              or api-key-file in [providers.google]"]
        );
    }

    #[test]
    fn a_model_without_any_provider_is_a_problem_with_its_fix() {
        let fixture = Fixture::with("model.default = \"opanai/gpt-4o\"\n");
        assert_eq!(
            fixture.problems(),
            ["tetherlet.toml:1:7: model.default: no provider is configured for it: write \
              provider/model and set the provider's key, such as OPENAI_API_KEY, \
              did you mean openai?"]
        );
    }

    #[test]
    fn another_base_needs_no_key() {
        let fixture = Fixture::new().env("OPENAI_BASE_URL", "http://llm.example.org:8080/");
        let provider = fixture.load().unwrap().route.unwrap().provider;
        assert_eq!(provider.base_url, "http://llm.example.org:8080/v1");
        assert!(provider.key.is_none() && provider.key_source.is_empty() && !provider.local);
    }

    #[test]
    fn a_key_is_not_sent_unencrypted_to_the_world() {
        let fixture = Fixture::new()
            .env("OPENAI_BASE_URL", "http://llm.example.org")
            .env("OPENAI_API_KEY", SECRET);
        assert_eq!(
            fixture.problems(),
            ["environment OPENAI_BASE_URL: providers.openai.base-url: \
              would send the key unencrypted: use https"]
        );
        let fixture = fixture.env("OPENAI_BASE_URL", "http://nas.local:8080");
        assert!(fixture.load().unwrap().route.unwrap().provider.local);
    }

    #[test]
    fn a_section_adds_a_provider_or_changes_one() {
        let fixture = Fixture::with(
            "[providers.house]\n\
             base-url = \"https://house.example.org/llm\"\n\
             form = \"anthropic\"\n\
             model = \"m\"\n\
             [providers.gemini]\n\
             model = \"gemini-2.5-flash\"\n\
             [model]\n\
             default = \"house\"\n",
        );
        let loaded = fixture.load().unwrap();
        let names: Vec<_> = loaded.config.providers.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(names, ["google", "house"]);
        let route = loaded.route.unwrap();
        assert_eq!((route.provider.form, route.model.as_str()), (Form::Anthropic, "m"));
        assert_eq!(route.provider.base_url, "https://house.example.org/llm/v1");
        assert_eq!(loaded.warnings, ["providers.google: no key found, so it cannot be used"]);
    }

    #[test]
    fn what_a_section_may_not_say() {
        let fixture = Fixture::with(
            "[providers.house]\n\
             model = \"m\"\n\
             [providers.openai]\n\
             api-key = \"sk-canary-0123456789\"\n\
             api_key = \"sk-canary-0123456789\"\n\
             base_ulr = \"x\"\n\
             base-url = \"https://sk-canary-0123456789@host\"\n\
             api-key-env = \"sk-canary-0123456789\"\n\
             api-key-file = \"sk-canary-0123456789\"\n\
             [providers.Bad_Name]\n\
             [providers.google]\n\
             form = \"anthropic\"\n\
             [providers.gemini]\n\
             [providers]\n\
             model = \"x\"\n",
        );
        let problems = fixture.problems();
        assert_eq!(
            problems,
            [
                "tetherlet.toml:4:1: providers.openai.api-key: \
                 keys do not belong in this file: use api-key-file or api-key-env",
                "tetherlet.toml:5:1: providers.openai.api_key: \
                 keys do not belong in this file: use api-key-file or api-key-env",
                "tetherlet.toml:6:1: providers.openai.base_ulr: is not a known key, \
                 did you mean base-url?",
                "tetherlet.toml:7:1: providers.openai.base-url: must be an http or https URL \
                 without user name, query, fragment or API path, at most 512 bytes",
                "tetherlet.toml:8:1: providers.openai.api-key-env: \
                 must be the name of an environment variable, such as MY_API_KEY",
                "tetherlet.toml:9:1: providers.openai.api-key-file: must be a path that begins with /",
                "tetherlet.toml:10:12: providers.Bad_Name: \
                 a provider's name is 1 to 32 lower-case letters, digits and '-'",
                "tetherlet.toml:13:12: providers.gemini: \
                 is the same provider as providers.google: keep one of them",
                "tetherlet.toml:15:1: providers.model: \
                 must be in a section of its provider, such as [providers.openai]",
                "tetherlet.toml:12:1: providers.google.form: \
                 another form has another address: give base-url too",
                "tetherlet.toml:1:12: providers.house: is not a built-in provider: give its base-url",
            ]
        );
        assert!(!problems.concat().contains("canary"));
    }

    #[test]
    fn sections_are_set_by_the_environment_too() {
        let fixture = Fixture::with("[providers.openai]\nmodel = \"a\"\n")
            .env("OPENAI_API_KEY", SECRET)
            .env("OPENAI_BASE_URL", "https://one.example.org")
            .env("TETHERLET_PROVIDERS_OPENAI_BASE_URL", "https://two.example.org")
            .env("TETHERLET_PROVIDERS_OPENAI_MODEL", "b");
        assert_eq!(route(&fixture), pair("openai", "b"));
        let (value, source) = fixture.setting("providers.openai.base-url");
        assert_eq!(value, "https://two.example.org/v1");
        assert_eq!(source, "environment TETHERLET_PROVIDERS_OPENAI_BASE_URL");
    }

    #[test]
    fn a_key_of_another_service_brings_its_base() {
        for (variable, default, base) in [
            ("ZAI_API_KEY", "zai/glm-5", "https://api.z.ai/api/paas/v4"),
            ("ZHIPUAI_API_KEY", "zai/glm-5", "https://open.bigmodel.cn/api/paas/v4"),
            ("OLLAMA_API_KEY", "ollama/gpt-oss:120b", "https://ollama.com/v1"),
        ] {
            let fixture =
                Fixture::new().env(variable, SECRET).env("TETHERLET_MODEL_DEFAULT", default);
            let provider = fixture.load().unwrap().route.unwrap().provider;
            assert_eq!(provider.base_url, base);
            assert!(!provider.local);
        }
        let fixture = Fixture::new().env("OLLAMA_HOST", "0.0.0.0").env("OLLAMA_API_KEY", SECRET);
        let fixture = fixture.env("TETHERLET_MODEL_DEFAULT", "ollama/qwen3");
        let provider = fixture.load().unwrap().route.unwrap().provider;
        assert_eq!(provider.base_url, "http://127.0.0.1:11434/v1");
        assert!(provider.local);
    }

    #[test]
    fn keys_are_found_in_their_order() {
        let mut fixture = Fixture::new();
        let key = |fixture: &Fixture| {
            let provider =
                fixture.load().unwrap_or_else(|it| panic!("{it}")).route.unwrap().provider;
            (provider.key.unwrap().expose().to_owned(), provider.key_source)
        };
        fixture.write("creds/openai_api_key", "from-credential\n", 0o444);
        let folder = fixture.folder.join("creds").display().to_string();
        fixture = fixture.env("CREDENTIALS_DIRECTORY", &folder);
        assert_eq!(key(&fixture), pair("from-credential", "credential openai_api_key"));
        let path = fixture.write("key", "from-file\n", 0o600).display().to_string();
        fixture = fixture.env("OPENAI_API_KEY_FILE", &path);
        assert_eq!(key(&fixture), pair("from-file", &format!("file {path}")));
        fixture = fixture.env("OPENAI_API_KEY", " from-env\n");
        assert_eq!(key(&fixture), pair("from-env", "OPENAI_API_KEY"));
        fixture.write("tetherlet.toml", "[providers.openai]\napi-key-env = \"MINE\"\n", 0o644);
        fixture = fixture.env("MINE", "from-section");
        assert_eq!(key(&fixture), pair("from-section", "MINE"));
        let text = format!("[providers.openai]\napi-key-file = \"{folder}/openai_api_key\"\n");
        fixture.write("tetherlet.toml", &text, 0o644);
        assert_eq!(key(&fixture).0, "from-credential");
    }

    #[test]
    fn key_files_that_others_can_read_are_refused_with_the_fix() {
        let fixture = Fixture::new();
        let path = fixture.write("key", SECRET, 0o640).display().to_string();
        let text = format!("[providers.openai]\napi-key-file = \"{path}\"\n");
        fixture.write("tetherlet.toml", &text, 0o644);
        assert_eq!(
            fixture.problems(),
            ["tetherlet.toml:2:1: providers.openai.api-key-file: \
              key is open to group or others: chmod 600 key"]
        );
        let fixture = fixture.env("CREDENTIALS_DIRECTORY", "/nowhere");
        let crooked = fixture.folder.join("creds/../key").display().to_string();
        fixture.write("creds/x", "", 0o600);
        let folder = fixture.folder.join("creds").display().to_string();
        let text = text.replace(&path, &crooked);
        fixture.write("tetherlet.toml", &text, 0o644);
        assert_eq!(fixture.env("CREDENTIALS_DIRECTORY", &folder).problems().len(), 1);
    }

    #[test]
    fn what_is_no_key_is_refused_without_repeating_it() {
        for text in
            ["", "  \n", "two words", "sk-canary\u{e9}", "sk-canary\nsecond", &"k".repeat(8193)]
        {
            let fixture = Fixture::new();
            let path = fixture.write("key", text, 0o600).display().to_string();
            let problems = fixture.env("OPENAI_API_KEY_FILE", &path).problems();
            assert_eq!(problems.len(), 1, "{text}");
            assert!(problems[0].contains(": providers.openai: "), "{problems:?}");
            assert!(!problems[0].contains("canary"), "{problems:?}");
        }
        let unset = Fixture::with("[providers.openai]\napi-key-env = \"gsk_canary\"\n").problems();
        assert_eq!(
            unset,
            ["tetherlet.toml:2:1: providers.openai.api-key-env: the variable it names is not set"]
        );
    }

    #[test]
    fn two_ways_to_one_key_are_refused() {
        let text = "[providers.openai]\napi-key-env = \"A\"\napi-key-file = \"/x\"\n";
        assert_eq!(
            Fixture::with(text).problems(),
            [
                "tetherlet.toml:3:1: providers.openai.api-key-file: give this or api-key-env, not both"
            ]
        );
    }

    #[test]
    fn keys_of_the_environment_can_be_switched_off() {
        let fixture = Fixture::with("")
            .env("OPENAI_API_KEY", SECRET)
            .env("CODETETHER_DISABLE_ENV_FALLBACK", "1");
        assert!(fixture.load().unwrap().config.providers.is_empty());
        fixture.write(
            "tetherlet.toml",
            "[providers.openai]\napi-key-env = \"OPENAI_API_KEY\"\n",
            0o644,
        );
        assert_eq!(route(&fixture), pair("openai", "gpt-4o"));
    }

    #[test]
    fn settings_and_debug_show_no_key() {
        let fixture = Fixture::new().env("OPENAI_API_KEY", SECRET);
        let shown = fixture.setting("providers.openai.api-key");
        assert_eq!(shown, pair("set (20 bytes)", "environment OPENAI_API_KEY"));
        assert!(!format!("{:?}", fixture.load().unwrap()).contains("canary"));
    }
}
