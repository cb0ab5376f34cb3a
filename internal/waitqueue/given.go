package waitqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// givenPart begins the keys of values that owners gave after they began. It lies
// before the grant, hence outside the ranges that a free name must not have, and
// with the grant in one prefix: whoever follows an exclusive owner and its value
// sees no ticket.
const givenPart = "given/"

// leaderPart is the beginning of given/ and grant, and of no other key.
const leaderPart = "g"

func (k keys) given(id string) string { return k.prefix + givenPart + id }

// A givenValue is the value of such a key.
type givenValue struct {
	V     int    `json:"v"`
	Value string `json:"value"`
}

func checkValue(value string) error {
	switch {
	case len(value) > MaxValue:
		return fmt.Errorf("value: has %d bytes, the limit is %d", len(value), MaxValue)
	case !utf8.ValidString(value):
		return errors.New("value: is not valid UTF-8")
	}
	return nil
}

// Give replaces the value that the owner began with, in a transaction that
// carries IsOwner. It returns what Commit does, and core.ErrInvalid for a value
// outside its limits. The end of the ownership takes the value back.
func (o *Owned) Give(ctx context.Context, value string) error {
	if err := checkValue(value); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	if !o.mayHaveGiven() {
		return o.lostNow()
	}
	a := o.t.a
	put := clientv3.OpPut(a.parts[0].n.given(a.id), mustJSON(givenValue{recordVersion, value}), a.lease())
	_, err := o.Commit(ctx, []clientv3.Op{put})
	return err
}

// MayHaveGiven makes the ownership's end take back a value that another process
// of the session may have given.
func (o *Owned) MayHaveGiven() { _ = o.mayHaveGiven() }

// mayHaveGiven reports false once the ownership is being let go: its last
// request may have been made without regard to a value.
func (o *Owned) mayHaveGiven() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended || o.ctx.Check() != nil {
		return false
	}
	o.t.a.gave = true
	return true
}

// takenBack are the operations that take away what an owner put beside its
// grants: what it gave, and the notice of a transfer that it followed.
func (p *pass) takenBack(part *passPart) []clientv3.Op {
	var ops []clientv3.Op
	if p.t.a.gave {
		ops = append(ops, clientv3.OpDelete(part.p.n.given(p.t.a.id)))
	}
	if part.heir != nil {
		ops = append(ops, clientv3.OpDelete(part.p.n.notice(p.t.a.id)))
	}
	return ops
}

// givenOf reads a value that was given.
func givenOf(kv *mvccpb.KeyValue) string {
	var v givenValue
	_ = json.Unmarshal(kv.Value, &v) // a foreign value reads as none
	return v.Value
}
