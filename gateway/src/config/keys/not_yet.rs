//! Names that OpenClaw knows and that mean nothing here yet.

/// Keys of OpenClaw that mean something there and nothing here yet: a warning of their own, so that nobody believes they work. A
/// key stands for everything below it.
pub(super) const NOT_YET: &[&str] = &[
    "$schema acp audio auth broadcast browser canvasHost cli cron diagnostics env hooks mcp media.preserveFilenames memory meta nodeHost",
    "approvals.plugin approvals.exec.enabled approvals.exec.mode approvals.exec.agentFilter approvals.exec.sessionFilter",
    "approvals.exec.targets plugins secrets skills surfaces talk tts ui update web wizard",
    "gateway.mode gateway.remote gateway.tailscale gateway.reload gateway.http gateway.push gateway.channelHealthCheckMinutes",
    "gateway.auth.allowTailscale gateway.tls.caPath",
    "gateway.controlUi.enabled gateway.controlUi.basePath gateway.controlUi.root gateway.nodes.browser gateway.nodes.pairing",
    "gateway.handshakeTimeoutMs gateway.tools gateway.webchat",
    "agents.ownership agents.defaults.systemAgent agents.defaults.sandbox agents.defaults.subagents agents.defaults.heartbeat",
    "agents.defaults.compaction agents.defaults.contextPruning agents.defaults.memorySearch agents.defaults.models",
    "agents.defaults.imageModel agents.defaults.thinkingDefault agents.defaults.verboseDefault agents.defaults.maxConcurrent",
    "agents.defaults.mediaMaxMb agents.defaults.userTimezone agents.defaults.blockStreamingDefault agents.defaults.typingMode",
    "agents.defaults.contextTokens agents.defaults.bootstrapMaxChars agents.defaults.skipBootstrap agents.defaults.elevatedDefault",
    "agents.list.[].sandbox agents.list.[].subagents agents.list.[].skills agents.list.[].memorySearch agents.list.[].heartbeat",
    "agents.list.[].agentDir agents.entries.*.agentDir",
    "agents.list.[].identity.avatar agents.list.[].groupChat.historyLimit agents.list.[].tools.profile agents.list.[].tools.exec",
    "agents.list.[].tools.alsoAllow agents.list.[].tools.byProvider agents.list.[].tools.toolsBySender agents.list.[].runtime",
    "agents.entries.*.sandbox agents.entries.*.subagents agents.entries.*.skills agents.entries.*.memorySearch",
    "agents.entries.*.heartbeat agents.entries.*.identity.avatar agents.entries.*.groupChat.historyLimit",
    "agents.entries.*.tools.profile agents.entries.*.tools.exec agents.entries.*.tools.alsoAllow agents.entries.*.runtime",
    "agents.entries.*.tools.byProvider agents.entries.*.tools.toolsBySender",
    "session.store session.mainKey session.maintenance",
    "session.typingMode session.typingIntervalSeconds session.agentToAgent session.threadBindings",
    "session.parentForkMaxTokens models.mode models.bedrockDiscovery models.providers.*.headers models.providers.*.auth",
    "models.providers.*.authHeader models.providers.*.models.[].cost models.providers.*.models.[].compat",
    "models.providers.*.models.[].headers models.providers.*.models.[].api",
    "channels.defaults channels.discord channels.slack channels.whatsapp channels.signal channels.imessage channels.bluebubbles",
    "channels.matrix channels.msteams channels.googlechat channels.mattermost channels.irc channels.line channels.nostr",
    "channels.feishu channels.twitch channels.zalo channels.nextcloud-talk channels.tlon channels.webchat",
    "commands.native commands.nativeSkills commands.text commands.config commands.debug commands.bash commands.restart",
    "commands.useAccessGroups commands.allowFrom commands.ownerDisplay",
    "tools.profile tools.alsoAllow tools.byProvider tools.toolsBySender tools.web tools.media tools.agentToAgent tools.elevated",
    "tools.sandbox tools.subagents tools.sessions tools.message tools.links tools.fs tools.loopDetection tools.sessions_spawn",
    "tools.exec.safeBins tools.exec.safeBinTrustedDirs tools.exec.strictInlineEval tools.exec.pathPrepend tools.exec.applyPatch",
    "tools.exec.backgroundMs tools.exec.notifyOnExit tools.exec.cleanupMs",
    "messages.responsePrefix messages.messagePrefix messages.ackReaction messages.ackReactionScope",
    "messages.inbound messages.tts messages.removeAckAfterReply messages.visibleReplies messages.statusReactions",
    "messages.suppressToolErrors messages.groupChat.historyLimit messages.groupChat.visibleReplies",
    "messages.groupChat.unmentionedInbound discovery.wideArea logging.consoleStyle logging.redactSensitive",
    "logging.redactPatterns logging.maxFileBytes",
];

/// Keys of a Telegram account that mean nothing here yet.
pub(super) const TELEGRAM_NOT_YET: &[&str] = &[
    "capabilities markdown customCommands configWrites contextVisibility replyToMode replyToModeByChatType dms direct streaming",
    "historyLimit dmHistoryLimit chunkMode blockStreaming mediaMaxMb timeoutSeconds retry network proxy webhookUrl webhookSecret",
    "webhookPath webhookHost webhookPort actions reactionNotifications reactionLevel heartbeat responsePrefix ackReaction",
    "linkPreview silentErrorReplies errorPolicy execApprovals threadBindings autoTopicLabel richMessages groups.*.groupPolicy",
    "groups.*.skills groups.*.systemPrompt groups.*.topics groups.*.agentId groups.*.disableAudioPreflight",
];

/// What to do in the place of a key that stays without effect. The first whose path it is, `*` for any name or number.
pub(super) const INSTEAD: &[(&str, &str)] = &[
    (
        "agents.*.*.agentDir",
        "an agent's files are in agents/<id> of the state folder; move that with --state-dir or ATOLL_STATE_DIR",
    ),
    (
        "agents.*.*.identity.avatar",
        "nothing here shows a picture of an agent; identity.name and identity.emoji are shown",
    ),
    (
        "session.store",
        "the list of sessions is in state.db and is made anew from the transcripts; move the state folder with --state-dir or ATOLL_STATE_DIR",
    ),
    (
        "session.mainKey",
        "the main session is always called main; leave the key out",
    ),
    (
        "session.maintenance",
        "sessions stay until they are deleted; `atoll sessions compact` makes one short",
    ),
    (
        "gateway.auth.allowTailscale",
        "Tailscale names nobody here yet; use gateway.auth.mode token, or trusted-proxy behind a proxy that names the user",
    ),
    (
        "gateway.mode",
        "this program is the gateway; a remote one is named by --gateway of the command",
    ),
];
