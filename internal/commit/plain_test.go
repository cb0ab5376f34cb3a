package commit_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/commit"
)

// likelyTxn writes key and reads it, if it is absent, and else only reads it.
func likelyTxn(key string, opts ...clientv3.OpOption) commit.Txn {
	return commit.Txn{Scope: []string{key}, Likely: true,
		If:   []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		Then: []clientv3.Op{clientv3.OpPut(key, key, opts...), clientv3.OpGet(key)},
		Else: []clientv3.Op{clientv3.OpGet(key)}}
}

// wrote fails the test unless each of n transactions wrote its key once, and
// read what it wrote.
func (s *stage) wrote(t *testing.T, all map[int]outcome, n int) {
	t.Helper()
	for i := range n {
		o, key := all[i], s.key(i)
		if o.err != nil || !o.result.Succeeded || len(o.result.Responses) != 2 {
			t.Fatalf("transaction %d: %+v", i, o)
		}
		kvs := o.result.Responses[1].GetResponseRange().Kvs
		if len(kvs) != 1 || string(kvs[0].Value) != key || kvs[0].Version != 1 || kvs[0].ModRevision != o.result.Revision {
			t.Errorf("transaction %d read %v", i, kvs)
		}
	}
}

func put(t *testing.T, key string) {
	t.Helper()
	if _, err := etcd.Client(t).Put(within(t), key, "another's"); err != nil {
		t.Fatal(err)
	}
}

func TestLikelyOnesTravelWithoutNesting(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	sent := s.watch()
	for n := range 30 {
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.hold.Release()
	s.wrote(t, s.wait(t), 30)
	if got := sent.plain(); !slices.Equal(got, []bool{true}) {
		t.Errorf("requests, plain or not: %v", got)
	}
}

// The operations of all together stay under the limit.
func TestABatchIsNoLargerThanOneWithoutNesting(t *testing.T) {
	s := newStage(t, etcd, commit.Config{MaxOps: 64})
	sent := s.watch()
	for n := range 48 { // of two operations each
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.hold.Release()
	s.wrote(t, s.wait(t), 48)
	if got := sent.plain(); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("requests, plain or not: %v", got)
	}
}

func TestTheLimitOfOperationsIsFoundOut(t *testing.T) {
	const n = 320 // of two operations each
	for most, want := range map[int]int{
		128:  6, // 64 transactions; 128, which is refused and goes in halves; 64 from then on
		1024: 3, // 64 transactions; then as many as a batch takes
	} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			server := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) {
				c.Tune = func(e *embed.Config) { e.MaxTxnOps = uint(most) }
			}))
			s := newStage(t, server, commit.Config{})
			sent := s.watch()
			for n := range n {
				s.submit(s.Committer, n, likelyTxn(s.key(n)))
			}
			s.hold.Release()
			s.wrote(t, s.wait(t), n)
			if got := sent.plain(); len(got) != want || slices.Contains(got, false) {
				t.Errorf("requests, plain or not: %v, want %d", got, want)
			}
		})
	}
}

func TestOneRefusalIsNotTheOthersFault(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	taken := s.key(99)
	put(t, taken)
	for n := range 10 {
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.submit(s.Committer, 99, likelyTxn(taken))
	s.hold.Release()
	all := s.wait(t)
	s.wrote(t, all, 10)
	o := all[99]
	if o.err != nil || o.result.Succeeded || value(o.result, 0) != "another's" {
		t.Errorf("the refused one: %+v", o)
	}
}

func TestDeadLeaseInAPlainBatch(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	sent := s.watch()
	for n := range 31 {
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.submit(s.Committer, 99, likelyTxn(s.key(99), clientv3.WithLease(12345)))
	s.hold.Release()
	all := s.wait(t)
	s.wrote(t, all, 31)
	if got := len(sent.all()); got != 1+2*5 {
		t.Errorf("%d requests, want one, and two halves five times", got)
	}
	if all[99].err == nil {
		t.Error("a put with a dead lease was acknowledged")
	}
}

func TestRefusalsMakeTheCommitterCareful(t *testing.T) {
	s := newStage(t, etcd, commit.Config{MaxTxns: 2})
	sent := s.watch()
	put(t, s.key(0))
	for n := range 10 {
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.hold.Release()
	s.wait(t)
	// Refused, and again with nesting; one batch carefully; plain from then on.
	if got, want := sent.plain(), []bool{true, false, false, true, true, true}; !slices.Equal(got, want) {
		t.Errorf("requests, plain or not: %v, want %v", got, want)
	}
}

func TestLostReplyOfAPlainBatchIsUnknown(t *testing.T) {
	s := newStage(t, etcd, commit.Config{})
	s.faults.LoseReply(coretest.Puts(s.key(3)))
	for n := range 5 {
		s.submit(s.Committer, n, likelyTxn(s.key(n)))
	}
	s.hold.Release()
	for n, o := range s.wait(t) {
		if n >= 0 && !errors.Is(o.err, commit.ErrUnknown) {
			t.Errorf("transaction %d: %v", n, o.err)
		}
	}
	if n := len(etcd.Dump(t, fmt.Sprintf("%s/0", s.prefix))); n != 5 {
		t.Errorf("%d keys written, want 5: the request was applied", n)
	}
}
