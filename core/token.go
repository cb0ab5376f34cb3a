package core

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/ownership"
)

// A Token is a fencing token: strictly larger for every later owner of the
// same name, in whatever order owners are chosen. It is opaque and is compared
// per name only. Give it to every resource that the ownership protects; the
// resource refuses a token smaller than the largest one it has seen.
//
// It grows with the revision of the cluster. A cluster restored from a snapshot
// keeps the property only if the restore bumps the revision.
type Token int64

// TokenFrom returns the token of the ownership whose context ctx is, or is
// derived from.
func TokenFrom(ctx context.Context) (Token, bool) {
	t, ok := ownership.Token(ctx)
	return Token(t), ok
}

// An Ownership is what an acquisition returns: a lock held, a permit, a term.
type Ownership interface {
	// Context ends when the ownership ends, at the latest when etcd could
	// give the name to another. context.Cause says why.
	Context() context.Context
	// Token returns the fencing token.
	Token() Token
	// IsOwner is the comparison that holds in etcd as long as the ownership
	// stands. A transaction that carries it commits only for the owner.
	IsOwner() clientv3.Cmp
}
