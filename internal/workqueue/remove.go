package workqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

const (
	// maxForgotten is how many dedup keys a removal takes in its transaction.
	maxForgotten = 1000
	// dropPage is how many keys one request of [Admin.Destroy] deletes, and dropRead how
	// many it reads with their values, each of which may be as large as a payload.
	dropPage = 500
	dropRead = 16
)

// Why a queue is not removed.
var (
	ErrInUse    = errors.New("it is in use")
	ErrNotThere = errors.New("there is no such queue")
)

// A Use is what stands in the way of a removal, all at one revision.
type Use struct {
	Items     int // everything that was neither acked nor made a dead letter
	Dead      int
	Consumers int // sessions that consume
	Dedups    int // keys under which items were enqueued

	listed bool
}

// A Dropped is what a removal has deleted.
type Dropped struct{ Items, Dead int }

// places are the ranges in which items stand, of a queue or of its dead letters.
func (k keys) places() []string {
	return []string{k.front(), k.lanes(), k.later(), k.asked(), k.out(), k.bundles(), k.nexts()}
}

// Use counts what a queue holds.
func (a Admin) Use(ctx context.Context) (Use, error) {
	k := a.root
	ops := []clientv3.Op{clientv3.OpGet(a.listed, clientv3.WithCountOnly())}
	for _, root := range []keys{k, k.dead()} {
		for _, place := range root.places() {
			ops = append(ops, root.count(place))
		}
	}
	ops = append(ops, k.count(k.heres()), k.count(k.dead().heres()), k.count(k.dedups()))
	resp, err := read(ctx, a.e, ops...)
	if err != nil {
		return Use{}, err
	}
	counts, places := resp.Responses, len(k.places())
	next := func(root keys, ranges int) (n int) {
		n, counts = root.items(counts[:ranges]...), counts[ranges:]
		return n
	}
	u := Use{listed: next(k, 1) > 0}
	u.Items, u.Dead = next(k, places), next(k.dead(), places)
	u.Consumers, u.Dedups = next(k, 2), next(k, 1)
	return u, nil
}

func (k keys) dedups() string  { return string(k) + "dedup/" }
func (k keys) busies() string  { return string(k) + "busy/" }
func (k keys) removed() string { return string(k) + "removed" }

// there tells whether there is a queue.
func (u Use) there() bool { return u.listed || u.Items > 0 || u.Dead > 0 }

func (u Use) refusal() error {
	var has []string
	for _, c := range []struct {
		n    int
		what string
	}{{u.Items, "item"}, {u.Dead, "dead letter"}, {u.Consumers, "consumer"}} {
		switch {
		case c.n == 1:
			has = append(has, "1 "+c.what)
		case c.n > 1:
			has = append(has, fmt.Sprintf("%d %ss", c.n, c.what))
		}
	}
	if len(has) == 0 && u.Dedups > maxForgotten {
		has = append(has, fmt.Sprintf("%d dedup ids, which it remembers until their windows are over", u.Dedups))
	}
	if len(has) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrInUse, strings.Join(has, ", "))
}

// Remove removes a queue that is empty and that nobody consumes, at one moment, or
// changes nothing. The error is ErrInUse, ErrNotThere, or one that is
// commit.ErrUnknown.
func (a Admin) Remove(ctx context.Context) error {
	for {
		u, err := a.Use(ctx)
		if err != nil {
			return err
		}
		if !u.there() {
			return ErrNotThere
		}
		if err := u.refusal(); err != nil {
			return err
		}
		done, err := a.remove(ctx, true)
		if err != nil || done {
			return err
		}
	}
}

// remove is the removal, if there is nothing in the queue; with unused, and nobody who
// consumes it.
//
// What is left of the queue are that it was removed, which every producer compares, and
// the numbers of its lanes. Items must never come under a number that a reader has left
// behind, and a reader may write where it is at any later moment.
func (a Admin) remove(ctx context.Context, unused bool) (bool, error) {
	k := a.root
	t := commit.Txn{Then: []clientv3.Op{clientv3.OpDelete(a.listed), clientv3.OpPut(k.removed(), ""), clientv3.OpDelete(k.fill()), under(k.dedups())}}
	for _, root := range []keys{k, k.dead()} {
		for _, place := range root.places() {
			t.If = append(t.If, nothingUnder(place))
		}
		if unused {
			t.If = append(t.If, nothingUnder(root.heres()))
			t.Then = append(t.Then, under(root.works())) // else they tell of consumers
		}
		t.Then = append(t.Then, clientv3.OpDelete(root.paused()), clientv3.OpDelete(root.woken()), under(root.busies()))
	}
	r, err := alone(ctx, a.e, t)
	return r.Succeeded, err
}

// under returns the deletion of everything under a prefix.
func under(prefix string) clientv3.Op {
	return clientv3.OpDelete(prefix, clientv3.WithRange(end(prefix)))
}
