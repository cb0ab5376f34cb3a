package discovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// Announce registers an instance on the session's own lease, once: nothing puts
// it back when it is lost, and it ends with the session. It is for whoever keeps
// the session alive and registers again by other means, such as a host for its
// callers; a program wants a [Registrar]. A second call of the same session
// updates the instance, and its token stays.
//
// Errors are core.ErrInvalid, core.ErrSessionExpired, core.ErrUnknownOutcome,
// after which it may be repeated, and etcd's.
func Announce(ctx context.Context, s *core.Session, i Instance) (core.Token, error) {
	i, err := i.normal()
	if err != nil {
		return 0, named(i.Service, i.ID, err)
	}
	p := onLease(s, i.Service, i.ID)
	if err := p.look(ctx, s.Client()); err != nil {
		return 0, named(i.Service, i.ID, err)
	}
	want := recordOf(i, p.reg, s, time.Now())
	if r, err := parse(kvOf(p)); err == nil {
		want.Since = r.Since
	}
	if len(i.Checks) > 0 {
		if err := tellCheckers(ctx, s.Client(), s.Namespace()); err != nil {
			return 0, named(i.Service, i.ID, err)
		}
	}
	if err := p.put(ctx, sender(s), want, s.Lease(), definitions(s.Namespace(), i.Service, i.ID)); err != nil {
		return 0, named(i.Service, i.ID, err)
	}
	return p.token(), nil
}

// Withdraw takes away what the session announced. A token that is not 0 must be
// that of the registration, else [ErrStaleToken]. What is not registered, or is
// another's by now, is [ErrLost].
func Withdraw(ctx context.Context, s *core.Session, service, id string, token core.Token) error {
	if err := checkInstance(s.Namespace(), service, id); err != nil {
		return named(service, id, err)
	}
	p := onLease(s, service, id)
	err := p.look(ctx, s.Client())
	if err == nil && p.value == "" {
		err = ErrLost
	}
	if err == nil {
		err = p.check(token)
	}
	if err != nil {
		return named(service, id, err)
	}
	lease, err := s.Client().Grant(ctx, int64(farewellTTL/time.Second))
	if err != nil {
		// A plain deletion it is: readers then count the instance as vanished.
		return named(service, id, p.leave(ctx, sender(s), 0, p.undefine(s.Namespace(), service, id)))
	}
	return named(service, id, p.leave(ctx, sender(s), lease.ID, p.undefine(s.Namespace(), service, id)))
}

// Change sets the state of what the session announced, and leaves the rest as it
// is. The token is as in [Withdraw].
func Change(ctx context.Context, s *core.Session, service, id string, token core.Token, state State) error {
	if err := errors.Join(checkInstance(s.Namespace(), service, id), invalid(state.check())); err != nil {
		return named(service, id, err)
	}
	p := onLease(s, service, id)
	if err := p.look(ctx, s.Client()); err != nil {
		return named(service, id, err)
	}
	r, err := parse(kvOf(p))
	if err != nil {
		return named(service, id, ErrLost)
	}
	if err := p.check(token); err != nil {
		return named(service, id, err)
	}
	if r.State = state; state == Passing {
		r.State = ""
	}
	return named(service, id, p.put(ctx, sender(s), r, s.Lease(), nil))
}

// Mark sets an instance's state from outside, whatever the program says that
// registered it: an operator takes it out of service with [Draining] or
// [Maintenance], and gives it back with "". It lasts as long as the registration
// does. by says who did it, at most 255 bytes. An instance that is not registered
// is [ErrNoInstance].
func Mark(ctx context.Context, c *clientv3.Client, namespace, service, id string, state State, by string) error {
	err := checkInstance(namespace, service, id)
	if state != "" {
		err = errors.Join(err, invalid(state.check()))
	}
	if err = errors.Join(err, invalid(keyspace.CheckText("by", by, MaxLabel))); err != nil {
		return named(service, id, err)
	}
	if state == "" {
		by = ""
	}
	key := instanceKey(namespace, service, id)
	for range attempts {
		done, err := mark(ctx, c, key, state, by)
		if err != nil || done {
			return named(service, id, err)
		}
	}
	return named(service, id, errRivals)
}

func mark(ctx context.Context, c *clientv3.Client, key string, state State, by string) (done bool, err error) {
	resp, err := c.Get(ctx, key)
	if err != nil {
		return false, err
	}
	if len(resp.Kvs) == 0 {
		return false, ErrNoInstance
	}
	kv := resp.Kvs[0]
	r, err := parse(kv)
	if err != nil || r.State == left {
		return false, ErrNoInstance
	}
	if r.Mark == state && r.By == by {
		return true, nil
	}
	r.Mark, r.By = state, by
	value, err := r.over(kv, "mark", "by")
	if err != nil {
		return false, err
	}
	// On its own lease: without one it would stand for ever.
	put, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", kv.ModRevision)).
		Then(clientv3.OpPut(key, value, clientv3.WithLease(clientv3.LeaseID(kv.Lease)))).Commit()
	if err != nil {
		return false, commit.Classify(err)
	}
	return put.Succeeded, nil
}

// farewellTTL is how long the farewell of a session stands, longer than etcd
// carries out what it was asked.
const farewellTTL = 15 * time.Second

// onLease is the place of an instance that the session registered on its own
// lease, and of no other.
func onLease(s *core.Session, service, id string) *place {
	return &place{key: instanceKey(s.Namespace(), service, id), reg: fmt.Sprintf("lease-%016x", uint64(s.Lease()))}
}

// undefine is what goes with the end of a record.
func (p *place) undefine(namespace, service, id string) func() []clientv3.Op {
	return func() []clientv3.Op {
		if !p.defined {
			return nil
		}
		return []clientv3.Op{clientv3.OpDelete(checkKey(namespace, service, id))}
	}
}

// tellCheckers says that a namespace has checks: hosts look there from then on.
func tellCheckers(ctx context.Context, c *clientv3.Client, namespace string) error {
	if namespace == defaultNamespace {
		return nil
	}
	key := namespaceKey(namespace)
	_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).Then(clientv3.OpPut(key, `{"v":1}`)).Commit()
	return err
}

func (p *place) look(ctx context.Context, c *clientv3.Client) error {
	resp, err := c.Get(ctx, p.key)
	if err != nil {
		return err
	}
	p.inc = 0
	if len(resp.Kvs) > 0 {
		err = p.see(resp.Kvs[0], resp.Header.Revision)
	}
	if p.inc == 0 { // it is not registered yet
		p.inc = resp.Header.Revision
	}
	return err
}

func sender(s *core.Session) doer { return s.Engine().Do }

func checkInstance(namespace, service, id string) error {
	if err := checkService(namespace, service); err != nil {
		return err
	}
	return invalid(keyspace.CheckName("id", id))
}

func invalid(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", core.ErrInvalid, err)
}
