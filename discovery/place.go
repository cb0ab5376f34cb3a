package discovery

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// attempts bounds how often one call writes anew because the key changed under
// it. Whoever keeps changing it is a rival, whose turn ends.
const attempts = 20

// errRivals says that attempts were not enough.
var errRivals = errors.New("the instance is registered again and again elsewhere")

// A doer sends one transaction.
type doer func(ctx context.Context, t commit.Txn) (commit.Result, error)

// A place is what a registration knows of its key. It is not safe for
// concurrent use.
type place struct {
	key string
	reg string
	inc int64 // as read when the registration was asked for; 0: not yet

	known      bool // a write of it was seen to succeed
	superseded bool // for good: whatever stands there later

	rev       int64 // of the key; 0: absent
	lease     clientv3.LeaseID
	value     string // what stands, if it is this registration's; else ""
	mark      State  // an operator's
	by        string
	health    *health // what hosts found
	defined   bool    // a definition of checks may stand
	beside    string  // what was put beside it last
	uncertain bool    // a put's reply was lost
}

// see takes in what stands in the key as of a revision of the store. It returns
// ErrSuperseded if that is a later registration's.
func (p *place) see(kv *mvccpb.KeyValue, now int64) error {
	p.rev, p.value, p.lease = 0, "", 0
	if p.superseded {
		return ErrSuperseded
	}
	if kv == nil {
		return nil
	}
	p.rev = kv.ModRevision
	r, ok := recordIn(kv)
	p.defined = p.defined || len(r.Checks) > 0
	switch {
	case !ok: // somebody's text: it is written over
	case r.Reg == p.reg && r.State != left:
		p.known = true
		p.inc = max(p.inc, r.Inc) // a late copy may have an older one
		p.value, p.lease, p.mark, p.by = string(kv.Value), clientv3.LeaseID(kv.Lease), r.Mark, r.By
		p.health = r.Health
	case r.Reg == p.reg:
	case !p.known: // whoever asks last is the newest
		p.inc = max(p.inc, now)
	case r.Inc > p.inc, r.Inc == p.inc && r.Reg > p.reg:
		p.superseded = true
		return ErrSuperseded
	}
	return nil
}

// put makes the key say want, on the lease, and what goes with it likewise. A nil
// beside leaves that alone.
func (p *place) put(ctx context.Context, do doer, want record, lease clientv3.LeaseID, with beside) error {
	for range attempts {
		if p.superseded {
			return ErrSuperseded
		}
		want = p.completed(want)
		value, b := want.bytes(), besides{says: p.beside}
		if with != nil {
			b = with(want, lease, p.defined)
		}
		if p.value == value && p.lease == lease && p.beside == b.says {
			return nil
		}
		p.defined = p.defined || len(want.Checks) > 0
		res, err := do(ctx, commit.Txn{
			Scope:  []string{p.key},
			If:     []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev)},
			Then:   append([]clientv3.Op{clientv3.OpPut(p.key, value, clientv3.WithLease(lease))}, b.ops...),
			Else:   []clientv3.Op{clientv3.OpGet(p.key)},
			Likely: true,
		})
		if err != nil {
			p.uncertain = p.uncertain || errors.Is(err, core.ErrUnknownOutcome)
			return err
		}
		if res.Succeeded {
			p.rev, p.value, p.lease, p.known = res.Revision, value, lease, true
			p.beside, p.defined = b.says, len(want.Checks) > 0
			return nil
		}
		if err := p.see(only(res), res.Revision); err != nil {
			return err
		}
	}
	return errRivals
}

// completed fills in what a program does not say.
func (p *place) completed(want record) record {
	want.Reg, want.Inc, want.Mark, want.By, want.Health = p.reg, p.inc, p.mark, p.by, p.health
	if len(want.Checks) == 0 {
		want.Health = nil
	}
	return want
}

// leave takes the registration away: with a farewell on the lease, or, without
// one, by deleting the key. Nil says that nothing of it stands, and that nothing
// of it can come to stand while the farewell does.
func (p *place) leave(ctx context.Context, do doer, lease clientv3.LeaseID, beside func() []clientv3.Op) error {
	if p.superseded || !p.known && !p.uncertain {
		return nil // it is another's, or nothing was ever sent
	}
	for range attempts {
		op := clientv3.OpPut(p.key, farewell(p.reg, p.inc).bytes(), clientv3.WithLease(lease))
		if lease == 0 {
			op = clientv3.OpDelete(p.key)
		}
		res, err := do(ctx, commit.Txn{
			Scope:  []string{p.key},
			If:     []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev)},
			Then:   append([]clientv3.Op{op}, beside()...),
			Else:   []clientv3.Op{clientv3.OpGet(p.key)},
			Likely: true,
		})
		switch {
		case err != nil:
			return err
		case res.Succeeded:
			p.rev, p.value = res.Revision, ""
			return nil
		}
		kv := only(res)
		superseded := errors.Is(p.see(kv, res.Revision), ErrSuperseded)
		switch {
		case superseded, kv == nil && !p.uncertain, kv != nil && p.value == "":
			return nil
		}
	}
	return errRivals
}

// isOwner holds as long as the key is as it was last written or seen.
func (p *place) isOwner() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev)
}

func (p *place) token() core.Token { return core.Token(p.inc << tokenShift) }

// only returns the key that the else branch of a transaction read, nil if it is
// absent.
func only(res commit.Result) *mvccpb.KeyValue {
	if kvs := res.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// check refuses a token that is not the registration's.
func (p *place) check(token core.Token) error {
	if token != 0 && token != p.token() {
		return fmt.Errorf("%w: it is %d", ErrStaleToken, p.token())
	}
	return nil
}

// kvOf is what stands in the place, as parse reads it.
func kvOf(p *place) *mvccpb.KeyValue {
	return &mvccpb.KeyValue{Value: []byte(p.value), ModRevision: p.rev}
}
