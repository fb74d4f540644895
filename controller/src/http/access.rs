//! What a caller is, and how far a right goes.
//!
//! Every route names its rights where it is listed (`routes/`); one that names none is for nobody.
//! An administrator may do everything, with everybody's things; who is one is told by the tenant of
//! his token. `tests/api/access.rs` tries every cell of the table over HTTP.

use straas_schemas::identity::Role;

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// Of the administrators' tenant.
    Admin,
    /// See [`Role::Operator`].
    Operator,
    /// See [`Role::Member`].
    Member,
    /// See [`Role::HealthCheck`].
    HealthCheck,
    /// He gave his password and has chosen no tenant yet.
    Nobody,
}

impl Rank {
    /// Of who has a role in a tenant, which may be the administrators'.
    #[must_use]
    pub const fn of(admins: bool, role: Role) -> Self {
        match role {
            // the checker is a program: what it needs does not grow with where it is
            Role::HealthCheck => Self::HealthCheck,
            _ if admins => Self::Admin,
            Role::Operator => Self::Operator,
            Role::Member => Self::Member,
        }
    }
}

/// How far a right goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// He has none.
    Never,
    /// To what his tenant owns; of the rest he does not learn that it is there.
    Own,
    /// To what anybody owns, and to what belongs to nobody.
    All,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// No token is asked for.
    pub open: bool,
    unscoped: bool,
    member: Reach,
    operator: Reach,
    health: Reach,
}

impl Access {
    /// For these, and administrators.
    #[must_use]
    pub const fn of(member: Reach, operator: Reach, health: Reach) -> Self {
        Self { open: false, unscoped: false, member, operator, health }
    }

    /// For administrators.
    #[must_use]
    pub const fn nobody() -> Self {
        Self::of(Reach::Never, Reach::Never, Reach::Never)
    }

    /// For whoever has a token, also one for no tenant yet.
    #[must_use]
    pub const fn known() -> Self {
        Self { unscoped: true, ..Self::of(Reach::Own, Reach::Own, Reach::Own) }
    }

    /// For whoever asks.
    #[must_use]
    pub const fn open() -> Self {
        Self { open: true, ..Self::known() }
    }

    /// How far the right of a rank goes.
    #[must_use]
    pub const fn reach(&self, rank: Rank) -> Reach {
        match rank {
            Rank::Admin => Reach::All,
            Rank::Operator => self.operator,
            Rank::Member => self.member,
            Rank::HealthCheck => self.health,
            Rank::Nobody if self.unscoped => Reach::Own,
            Rank::Nobody => Reach::Never,
        }
    }

    /// For people: `member own, operator all`.
    #[must_use]
    pub fn words(&self) -> String {
        let word = |reach| match reach {
            Reach::Never => "no",
            Reach::Own => "own tenant's",
            Reach::All => "everybody's",
        };
        if self.open {
            return "anybody".to_owned();
        }
        let (member, operator, health) = (word(self.member), word(self.operator), word(self.health));
        format!("member: {member}; operator: {operator}; health check: {health}; administrator: everybody's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_from_tenant_and_role() {
        for (admins, role, expect) in [
            (true, Role::Member, Rank::Admin),
            (true, Role::Operator, Rank::Admin),
            (true, Role::HealthCheck, Rank::HealthCheck),
            (false, Role::Member, Rank::Member),
            (false, Role::Operator, Rank::Operator),
            (false, Role::HealthCheck, Rank::HealthCheck),
        ] {
            assert_eq!(Rank::of(admins, role), expect, "{admins} {role:?}");
        }
    }
}
