//! The views of sessions, and of the subscribers of a channel, for an operator. They change nothing.

use super::Sessions;
use super::table::{AdmittedBy, Session, Sub};
use crate::app::Whom;
use crate::inspect::{ChannelView, SessionView, SubscriberView, SubscriptionState, SubscriptionView};
use crate::name::ChannelName;
use crate::rules::Rules;

impl AdmittedBy {
    fn word(self) -> &'static str {
        match self {
            AdmittedBy::Rule => "rule",
            AdmittedBy::Hook => "hook",
            AdmittedBy::Grant => "grant",
            AdmittedBy::App => "application",
        }
    }
}

impl Sessions {
    /// The sessions of a client or a user that are here, at most so many.
    pub(crate) fn views_of(&self, rules: &Rules, whom: &Whom, count_max: usize) -> Vec<SessionView> {
        let table = &self.sessions;
        let indices: Vec<u32> = match whom {
            Whom::Client(client) => table.by_client.get(client).copied().into_iter().collect(),
            Whom::User(user) => table.sessions_of(user).iter().copied().take(count_max).collect(),
            Whom::Label(label) => table.labelled(label).into_iter().flatten().copied().take(count_max).collect(),
        };
        indices.into_iter().map(|index| self.view(rules, &table.slab[index as usize])).collect()
    }

    fn view(&self, rules: &Rules, session: &Session) -> SessionView {
        let identity = session.identity();
        SessionView {
            client: session.client,
            user: session.user().cloned(),
            conn: session.conn,
            connections: session.incarnation.saturating_add(1),
            labels: identity.map(|identity| identity.proof.labels.clone()).unwrap_or_default(),
            grants: identity.map_or(0, |identity| identity.proof.grants.len()),
            expires_ms: identity.and_then(|identity| identity.proof.expires_ms),
            outstanding: session.outstanding,
            is_behind: session.is_full(&self.conns),
            throttled_by: session.conn.and_then(|id| self.throttled_by(id)),
            subscriptions: session.subs.iter().map(|sub| self.subscription(rules, session, sub)).collect(),
        }
    }

    fn subscription(&self, rules: &Rules, session: &Session, sub: &Sub) -> SubscriptionView {
        let edge = &self.edges.edges[sub.edge as usize];
        let member = sub.live().map(|membership| (sub.variant(session.wire), membership.place));
        let state = member.map_or(SubscriptionState::Asking, |(variant, place)| edge.state_of(variant, place));
        SubscriptionView {
            channel: edge.name.clone(),
            rule: rules.of(edge.name.as_str()).map(|rule| rule.pattern.as_str().into()),
            by: sub.by.word(),
            state,
            at: member.map(|(variant, place)| edge.reached(variant, place)),
            has_entered: sub.entered.is_some(),
        }
    }

    /// The channel's subscribers here, with the first of them.
    pub(crate) fn channel_view(&self, rules: &Rules, name: &ChannelName, count_max: usize) -> ChannelView {
        let rule = rules.of(name.as_str()).map(|rule| rule.pattern.as_str().into());
        let none = ChannelView { rule, home: None, subscribers: 0, at: None, is_behind: false, some: Vec::new() };
        let Some(index) = self.edges.find(name.as_str()) else { return none };
        let edge = &self.edges.edges[index as usize];
        let members = edge.places().take(count_max).map(|(variant, place, member)| {
            let session = &self.sessions.slab[member.session as usize];
            SubscriberView {
                client: session.client,
                user: session.user().cloned(),
                state: edge.state_of(variant, place),
                at: edge.reached(variant, place),
            }
        });
        ChannelView {
            subscribers: edge.count(),
            at: edge.at,
            is_behind: edge.is_behind(),
            some: members.collect(),
            ..none
        }
    }
}
