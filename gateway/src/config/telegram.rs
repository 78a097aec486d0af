//! `channels.telegram`: bots that inherit from what stands beside `accounts`. Knows nothing of Telegram itself.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;

use super::tree::secret;

/// The account that is meant when none is named.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Characters of one message unless the configuration says otherwise.
const TEXT_CHUNK: usize = 4000;

/// As written; [`Telegram::bots`] is what holds.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Telegram {
    #[serde(flatten)]
    base: Account,
    #[serde(default)]
    accounts: BTreeMap<String, Account>,
    default_account: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    enabled: Option<bool>,
    name: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    bot_token: Option<SecretString>,
    token_file: Option<String>,
    api_root: Option<String>,
    dm_policy: Option<DmPolicy>,
    allow_from: Option<Vec<String>>,
    group_policy: Option<GroupPolicy>,
    group_allow_from: Option<Vec<String>>,
    groups: Option<BTreeMap<String, Group>>,
    text_chunk_limit: Option<usize>,
}

/// Who may write directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmPolicy {
    /// Those on the list and those who were approved by a code.
    Pairing,
    /// Those on the list.
    Allowlist,
    /// Everybody.
    Open,
    /// Nobody.
    Disabled,
}

/// Which groups are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPolicy {
    /// Those that are listed.
    Allowlist,
    /// All.
    Open,
    /// None.
    Disabled,
}

/// One group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Whether it is heard.
    pub enabled: Option<bool>,
    /// Whether the bot must be addressed.
    pub require_mention: Option<bool>,
    /// Who is heard in it.
    pub allow_from: Option<Vec<String>>,
}

/// One bot, with everything it inherits.
#[derive(Debug, Clone)]
pub struct Bot {
    /// Its account's name.
    pub account: String,
    /// Whether it runs.
    pub enabled: bool,
    /// What people call it.
    pub name: Option<String>,
    /// Its token.
    pub token: BotToken,
    /// Another Bot API server.
    pub api_root: Option<String>,
    /// Who may write directly.
    pub dm_policy: DmPolicy,
    /// User ids, or `*`.
    pub allow_from: Vec<String>,
    /// Which groups are heard.
    pub group_policy: GroupPolicy,
    /// Who is heard in groups: as written, else [`Self::allow_from`].
    pub group_allow_from: Vec<String>,
    /// By chat id, or `*`.
    pub groups: BTreeMap<String, Group>,
    /// Characters of one message.
    pub text_chunk_limit: usize,
}

/// Where a bot's token is.
#[derive(Debug, Clone)]
pub enum BotToken {
    /// Here.
    Given(SecretString),
    /// In this file.
    File(String),
    /// Nowhere.
    Missing,
}

impl Telegram {
    /// Every bot, the default one first. What stands beside `accounts` is a bot too when it has a token or there is no other.
    pub fn bots(&self) -> Vec<Bot> {
        let mut bots: Vec<Bot> = self
            .accounts
            .iter()
            .map(|(name, account)| self.bot(name, account))
            .collect();
        let base_has_token = self.base.bot_token.is_some() || self.base.token_file.is_some();
        let named = self.accounts.contains_key(DEFAULT_ACCOUNT);
        if !named && (base_has_token || bots.is_empty()) {
            bots.push(self.bot(DEFAULT_ACCOUNT, &Account::default()));
        }
        let default = self.default_account(&bots);
        bots.sort_by_key(|bot| bot.account != default);
        bots
    }

    /// The account that is meant when none is named: as written, else `default`, else the only or first one.
    pub fn default_account_name(&self) -> String {
        self.default_account(&self.bots())
    }

    /// The same among bots that were listed already.
    pub fn default_account(&self, bots: &[Bot]) -> String {
        let has = |name: &str| bots.iter().any(|bot| bot.account == name);
        self.default_account
            .clone()
            .filter(|name| has(name))
            .or_else(|| has(DEFAULT_ACCOUNT).then(|| DEFAULT_ACCOUNT.to_owned()))
            .or_else(|| bots.first().map(|bot| bot.account.clone()))
            .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned())
    }

    /// The name written as `defaultAccount`.
    pub(super) fn written_default(&self) -> Option<&str> {
        self.default_account.as_deref()
    }

    fn bot(&self, name: &str, own: &Account) -> Bot {
        let base = &self.base;
        let allow_from = own
            .allow_from
            .clone()
            .or_else(|| base.allow_from.clone())
            .unwrap_or_default();
        let group_allow_from = own.group_allow_from.clone().or_else(|| base.group_allow_from.clone());
        let token = match (own.token(), base.token()) {
            (BotToken::Missing, inherited) => inherited,
            (own, _) => own,
        };
        let wanted = own.enabled.unwrap_or(true) && base.enabled.unwrap_or(true);
        let on_by_itself = !matches!(token, BotToken::Missing);
        Bot {
            account: name.to_owned(),
            enabled: wanted && (on_by_itself || own.enabled.or(base.enabled) == Some(true)),
            name: own.name.clone().or_else(|| base.name.clone()),
            token,
            api_root: own.api_root.clone().or_else(|| base.api_root.clone()),
            dm_policy: own.dm_policy.or(base.dm_policy).unwrap_or(DmPolicy::Pairing),
            group_policy: own.group_policy.or(base.group_policy).unwrap_or(GroupPolicy::Allowlist),
            group_allow_from: group_allow_from.unwrap_or_else(|| allow_from.clone()),
            allow_from,
            groups: own.groups.clone().or_else(|| base.groups.clone()).unwrap_or_default(),
            text_chunk_limit: own.text_chunk_limit.or(base.text_chunk_limit).unwrap_or(TEXT_CHUNK),
        }
    }
}

impl Account {
    fn token(&self) -> BotToken {
        match (&self.bot_token, &self.token_file) {
            (Some(token), _) => BotToken::Given(token.clone()),
            (None, Some(file)) => BotToken::File(file.clone()),
            (None, None) => BotToken::Missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bots(json: serde_json::Value) -> Vec<Bot> {
        serde_json::from_value::<Telegram>(json).expect("parses").bots()
    }

    #[test]
    fn a_bot_inherits_what_it_does_not_say() {
        let bots = bots(serde_json::json!({
            "botToken": "1:a", "allowFrom": ["5"], "dmPolicy": "allowlist", "groups": {"-1": {}},
            "accounts": {"work": {"botToken": "2:b", "dmPolicy": "open", "allowFrom": ["*"]}, "off": {"enabled": false}}
        }));
        let names: Vec<_> = bots.iter().map(|bot| (bot.account.as_str(), bot.enabled)).collect();
        assert_eq!(names, [("default", true), ("off", false), ("work", true)]);
        assert_eq!(
            (bots[0].dm_policy, bots[0].allow_from.clone()),
            (DmPolicy::Allowlist, vec!["5".into()])
        );
        assert_eq!(
            (bots[2].dm_policy, bots[2].group_allow_from.clone()),
            (DmPolicy::Open, vec!["*".into()])
        );
        assert!(bots[2].groups.contains_key("-1"));
    }

    #[test]
    fn the_default_account_is_the_written_one_else_default_else_the_first() {
        let name = |json| {
            serde_json::from_value::<Telegram>(json)
                .expect("parses")
                .default_account_name()
        };
        assert_eq!(
            name(serde_json::json!({"botToken": "x", "accounts": {"a": {}}})),
            "default"
        );
        assert_eq!(name(serde_json::json!({"accounts": {"b": {}, "a": {}}})), "a");
        assert_eq!(
            name(serde_json::json!({"accounts": {"b": {}, "a": {}}, "defaultAccount": "b"})),
            "b"
        );
        assert_eq!(
            name(serde_json::json!({"accounts": {"b": {}}, "defaultAccount": "gone"})),
            "b"
        );
    }

    #[test]
    fn no_token_shows_in_debug_output() {
        let bots = bots(serde_json::json!({"botToken": "123:canary"}));
        assert!(!format!("{bots:?}").contains("canary"));
    }
}
