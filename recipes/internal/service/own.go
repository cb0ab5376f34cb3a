package service

import (
	"context"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// An own is the session of an instance's own, while there is one.
type own struct {
	mu      sync.Mutex
	session *core.Session
	changed chan struct{} // closed when session changes
}

func (o *own) set(s *core.Session) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.session = s
	close(o.changed)
	o.changed = make(chan struct{})
}

// wait returns the session, as soon as there is one.
func (o *own) wait(ctx context.Context) (*core.Session, error) {
	for {
		o.mu.Lock()
		session, changed := o.session, o.changed
		o.mu.Unlock()
		if session != nil {
			return session, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Lend returns a session in a namespace for what nobody's session does: what an
// operator asks for, or a look. In records it has the label owner.
func (s *Service) Lend(ctx context.Context, owner, namespace string) (*core.Session, error) {
	if s.Stopping() {
		return nil, recipe.Status(core.ErrSessionClosed)
	}
	session, err := Bounded(ctx, s.own.wait)
	if err != nil {
		return nil, recipe.Status(err)
	}
	lent, err := s.lender.Session(core.Loan{Lease: session.Lease(), TTL: session.TTL(), Owner: owner, Namespace: namespace, Log: s.Env.Log})
	if err != nil {
		return nil, recipe.Status(err)
	}
	return lent, nil
}

// operator is who asks if nobody says who does.
const operator = "operator"

// maxBy bounds the label of who asks, as that of an owner.
const maxBy = 255

// By is who asks, as owners and histories read it: the label in the request, else
// the identity of the call.
func By(ctx context.Context, label string) (string, error) {
	if err := keyspace.CheckText("by", label, maxBy); err != nil {
		return "", Invalid(err)
	}
	if label != "" {
		return label, nil
	}
	if id := metadata.ValueFromIncomingContext(ctx, recipe.MetaIdentity); len(id) > 0 && id[0] != "" {
		return id[0], nil
	}
	return operator, nil
}

// ForceStatus is the error of a forced release. Without space other releases
// still work; this one has to write first, to tell the owner, whom owner names.
func ForceStatus(err error, owner string) error {
	if recipe.Reason(err) == recipe.ReasonNoSpace {
		return recipe.Errorf(codes.ResourceExhausted, recipe.ReasonNoSpace,
			"etcd's database is full, and the %s cannot be told: an operator has to make room, or end the %s or its session", owner, owner)
	}
	return err
}
