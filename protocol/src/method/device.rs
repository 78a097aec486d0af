//! `device.*`: pairing and tokens, and the events about them.

use crate::capability::Surface;
use crate::id::{DeviceId, PairingId};
use crate::method::Text;
use crate::strict::{closed, open, words};

words! {
    /// How a pairing request ended.
    PairingDecision {
        /// It is in.
        Approved = "approved",
        /// It is not, or a later request took its place.
        Rejected = "rejected",
        /// It was in, and is no longer.
        Removed = "removed",
    }
}

closed! {
    /// `device.pair.approve` and `node.pair.approve`.
    pub struct PairingApproval {
        /// The request.
        request_id: Text;
        /// The digits that the device shows; a native one that shows others is not approved.
        code?: Text,
    }

    /// `device.pair.reject` and `node.pair.reject`.
    pub struct PairingRequest {
        /// The request.
        request_id: Text;
    }

    /// `device.pair.setupCode`.
    #[derive(Default)]
    pub struct SetupCodeAsk {;
        /// The address to name in place of the gateway's own.
        public_url?: Text,
        /// Whether to name the configured remote address; there is none here.
        prefer_remote_url?: bool,
        /// Whether to draw the code, as a PNG picture.
        include_qr?: bool,
        /// What the device may become: `node`.
        bootstrap_profile?: Text,
        /// Whether to make a join link.
        join_url?: bool,
    }

    /// `device.pair.setupStatus` and `device.invite.revoke`.
    pub struct SetupNamed {
        /// The setup code's id.
        setup_id: Text;
    }

    /// `device.invite`.
    #[derive(Default)]
    pub struct Invite {;
        /// `node` (default) or `operator`.
        role?: Text,
        /// What an operator may do; read and write by default.
        scopes?: Vec<Text>,
        /// The commands that a node may offer; all that it declares by default.
        commands?: Vec<Text>,
        /// What to call the device.
        name?: Text,
        /// Where the gateway is; what it knows of itself by default.
        addresses?: Vec<Text>,
        /// The device in whose place this one comes.
        replaces?: Text,
    }

    /// `device.commands.set`.
    pub struct CommandsChange {
        /// The device.
        device_id: Text;
        /// Commands to approve.
        allow?: Vec<Text>,
        /// Commands to withdraw.
        deny?: Vec<Text>,
    }

    /// `device.pair.remove`.
    pub struct DeviceRemove {
        /// The device.
        device_id: Text;
    }

    /// `device.pair.rename`.
    pub struct DeviceRename {
        /// The device.
        device_id: Text,
        /// Its new name, up to 64 characters.
        label: Text;
    }

    /// `device.token.rotate`.
    pub struct TokenRotate {
        /// The device.
        device_id: Text,
        /// The role that the token is for.
        role: Text;
        /// Fewer scopes than now.
        scopes?: Vec<Text>,
    }

    /// `device.token.revoke`.
    pub struct TokenRevoke {
        /// The device.
        device_id: Text,
        /// The role that the token is for.
        role: Text;
    }
}

open! {
    /// The reply of `device.pair.list`.
    pub struct DevicePairings {
        /// To be decided.
        pending: Vec<PendingDevice>,
        /// Decided.
        paired: Vec<PairedDevice>;
    }

    /// A device that waits; also the event `device.pair.requested`.
    pub struct PendingDevice {
        /// The request.
        request_id: PairingId,
        /// The device.
        device_id: DeviceId,
        /// Its key, base64url.
        public_key: String,
        /// Its system.
        platform: String,
        /// Its program.
        client_id: String,
        /// How that is used.
        client_mode: String,
        /// The role it asks for.
        role: String,
        /// The same, as a list.
        roles: Vec<String>,
        /// The scopes it asks for.
        scopes: Vec<String>,
        /// Whether it was approved without a question.
        silent: bool,
        /// Whether it was paired before.
        is_repair: bool,
        /// When it last asked, Unix milliseconds.
        ts: u64;
        /// What a person calls it.
        display_name?: String,
        /// Its kind.
        device_family?: String,
        /// Its address.
        remote_ip?: String,
        /// The digits to compare with those on the device.
        code?: String,
        /// What it offers; approved in the same step.
        surface?: Surface,
    }

    /// A device that is in.
    pub struct PairedDevice {
        /// The device.
        device_id: DeviceId,
        /// Its key, base64url.
        public_key: String,
        /// Its system.
        platform: String,
        /// Its program.
        client_id: String,
        /// How that is used.
        client_mode: String,
        /// Its first role.
        role: String,
        /// Its roles.
        roles: Vec<String>,
        /// Its scopes.
        scopes: Vec<String>,
        /// Unix milliseconds.
        created_at_ms: u64,
        /// Unix milliseconds.
        approved_at_ms: u64,
        /// Its tokens, without the secrets.
        tokens: Vec<TokenSummary>;
        /// What a person calls it.
        display_name?: String,
        /// Its kind.
        device_family?: String,
        /// `owner`, `bootstrap`, `local`, …
        approved_via?: String,
        /// Unix milliseconds.
        last_seen_at_ms?: u64,
        /// What was last heard of it.
        last_seen_reason?: String,
        /// Whether it is linked now.
        connected?: bool,
        /// What it may offer as a node.
        node_surface?: NodeSurface,
    }

    /// A token without its secret.
    pub struct TokenSummary {
        /// The role that it is for.
        role: String,
        /// Its scopes.
        scopes: Vec<String>,
        /// Unix milliseconds.
        created_at_ms: u64;
        /// Unix milliseconds.
        rotated_at_ms?: u64,
        /// Unix milliseconds.
        revoked_at_ms?: u64,
        /// Unix milliseconds.
        last_used_at_ms?: u64,
    }

    /// What a paired device may offer as a node.
    pub struct NodeSurface {
        /// Families.
        caps: Vec<String>,
        /// Commands.
        commands: Vec<String>;
        /// What a person calls it.
        display_name?: String,
        /// Its version.
        version?: String,
        /// Unix milliseconds.
        created_at_ms?: u64,
        /// Unix milliseconds.
        approved_at_ms?: u64,
        /// Unix milliseconds.
        last_connected_at_ms?: u64,
        /// Unix milliseconds.
        last_disconnected_at_ms?: u64,
    }

    /// The reply of `device.pair.approve`.
    pub struct DeviceApproved {
        /// The request.
        request_id: PairingId,
        /// The device.
        device: PairedDevice;
    }

    /// The reply of `device.pair.reject`.
    pub struct DeviceRejected {
        /// The request.
        request_id: PairingId,
        /// The device.
        device_id: DeviceId;
    }

    /// The reply of `device.pair.remove`.
    pub struct DeviceRemoved {
        /// The device.
        device_id: DeviceId;
    }

    /// The reply of `device.pair.rename`.
    pub struct DeviceRenamed {
        /// The device.
        device_id: DeviceId,
        /// Its new name.
        label: String;
    }

    /// The event `device.pair.resolved`.
    pub struct DeviceResolved {
        /// The request.
        request_id: PairingId,
        /// The device.
        device_id: DeviceId,
        /// How it ended.
        decision: PairingDecision,
        /// Unix milliseconds.
        ts: u64;
    }

    /// The reply of `device.token.rotate`.
    pub struct TokenRotated {
        /// The device.
        device_id: DeviceId,
        /// The role.
        role: String,
        /// The token's scopes.
        scopes: Vec<String>,
        /// Unix milliseconds.
        rotated_at_ms: u64;
        /// The secret, to the device itself only.
        token?: String,
        /// `withheld-cross-device` when another device asked.
        token_delivery?: String,
    }

    /// The reply of `device.token.revoke`.
    pub struct TokenRevoked {
        /// The device.
        device_id: DeviceId,
        /// The role.
        role: String,
        /// Unix milliseconds.
        revoked_at_ms: u64;
    }
}
