//! `/snap` and `/screen`: one picture of a device, for whoever typed it.

use atoll_agent::port::NodeCommand;
use atoll_pairing::access::Method;
use atoll_protocol::json::Json;
use atoll_protocol::scope::Scope;
use serde_json::{Value, json};

use super::{Asker, NotDone, Reply, TOOL_CALL};
use crate::house::House;
use crate::journal::calls::ToolKey;
use crate::nodes::Once;

/// Pixels in a row that are asked for.
const WIDTH: u32 = 1600;

/// A picture of a camera: the one that looks there, or has this id.
pub(super) async fn snap(house: &House, asker: &Asker, named: &str, camera: Option<String>) -> Result<Reply, NotDone> {
    let mut params = json!({"maxWidth": WIDTH, "format": "jpg"});
    match camera.as_deref() {
        Some(side @ ("front" | "back")) => params["facing"] = json!(side),
        Some(id) => params["deviceId"] = json!(id),
        None => {}
    }
    look(house, asker, named, "camera.snap", params).await
}

/// A picture of the screen.
pub(super) async fn screen(house: &House, asker: &Asker, named: &str) -> Result<Reply, NotDone> {
    look(house, asker, named, "screen.snapshot", json!({"format": "jpeg"})).await
}

async fn look(house: &House, asker: &Asker, named: &str, command: &str, params: Value) -> Result<Reply, NotDone> {
    let _ = asker.decide(house, Method::operator("node.invoke", Scope::Write))?;
    let running = house.typed.begin(&asker.run, &asker.session).ok_or(NotDone::TooMany)?;
    let once = Once {
        ring: &house.ring,
        principal: asker.principal.clone(),
        key: ToolKey {
            run: asker.run.clone(),
            tool_call: TOOL_CALL.to_owned(),
        },
        cancel: &running.cancel,
    };
    let wanted = NodeCommand {
        name: command.to_owned(),
        params: Some(params.into()),
        timeout: None,
    };
    let payload = match once.invoke(named, wanted).await {
        Ok(payload) => payload.unwrap_or_else(|| json!({}).into()),
        Err(error) => return Ok(format!("⚠️ {}", error.reply().text).into()),
    };
    let found = house.pictures.named(&payload).await;
    if found.media.is_empty() {
        let why = found.notes.first().map_or("it came without a picture", String::as_str);
        return Ok(format!("⚠️ There is nothing to show: {why}").into());
    }
    Ok(Reply {
        text: caption(named, command, &payload),
        media: found.media,
    })
}

/// Where it comes from, in a device's own words with nothing in them that would format.
fn caption(node: &str, command: &str, payload: &Json) -> String {
    let tree = payload.tree();
    let what = match command {
        "camera.snap" => tree.get("deviceId").and_then(Value::as_str).unwrap_or("camera"),
        _ => "screen",
    };
    super::report::plain(&format!("{node} · {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caption_names_the_device_and_nothing_in_it_formats() {
        let payload = json!({"deviceId": "front*cam"}).into();
        assert_eq!(caption("phone", "camera.snap", &payload), "phone · front cam");
        assert_eq!(caption("phone", "camera.snap", &json!([]).into()), "phone · camera");
        assert_eq!(caption("laptop", "screen.snapshot", &payload), "laptop · screen");
    }
}
