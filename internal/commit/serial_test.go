package commit_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"

	"github.com/conclavehq/conclave/internal/commit"
)

// A step is a transaction on a few small keys: if key `if` has the value that
// it expects, write some keys, else write one; in both cases read some.
type step struct {
	guard   int
	expect  string // "" for absent
	then    []int
	orElse  []int
	removes bool // the else branch deletes instead of writing
	reads   []int
	likely  bool
}

const serialKeys = 5

func (s step) scope(key func(int) string) []string {
	var scope []string
	for _, k := range slices.Concat([]int{s.guard}, s.then, s.orElse, s.reads) {
		scope = append(scope, key(k))
	}
	return scope
}

// txn writes n, the number of the step, so that every write is told apart. The
// reads come first: they see what was there before.
func (s step) txn(n int, key func(int) string) commit.Txn {
	guard := clientv3.Compare(clientv3.CreateRevision(key(s.guard)), "=", 0)
	if s.expect != "" {
		guard = clientv3.Compare(clientv3.Value(key(s.guard)), "=", s.expect)
	}
	t := commit.Txn{Scope: s.scope(key), If: []clientv3.Cmp{guard}, Likely: s.likely}
	for _, k := range s.reads {
		t.Then, t.Else = append(t.Then, clientv3.OpGet(key(k))), append(t.Else, clientv3.OpGet(key(k)))
	}
	for _, k := range s.then {
		t.Then = append(t.Then, clientv3.OpPut(key(k), fmt.Sprint(n)))
	}
	for _, k := range s.orElse {
		if s.removes {
			t.Else = append(t.Else, clientv3.OpDelete(key(k)))
		} else {
			t.Else = append(t.Else, clientv3.OpPut(key(k), fmt.Sprint(n)))
		}
	}
	return t
}

func genStep(total int) *rapid.Generator[step] {
	return rapid.Custom(func(t *rapid.T) step {
		keys := rapid.IntRange(0, serialKeys-1)
		s := step{guard: keys.Draw(t, "guard"), removes: rapid.Bool().Draw(t, "removes"),
			likely: rapid.IntRange(0, 9).Draw(t, "likely") > 0}
		if rapid.Bool().Draw(t, "expects") {
			s.expect = fmt.Sprint(rapid.IntRange(0, total-1).Draw(t, "expect"))
		}
		s.then = rapid.SliceOfNDistinct(keys, 0, 2, rapid.ID[int]).Draw(t, "then")
		s.orElse = rapid.SliceOfNDistinct(keys, 0, 1, rapid.ID[int]).Draw(t, "else")
		s.reads = rapid.SliceOfNDistinct(keys, 0, 2, rapid.ID[int]).Draw(t, "reads")
		return s
	})
}

// Whatever travels together: there is an order in which the transactions, one by
// one, would have had the same results. etcd's revisions tell which one.
func TestBatchesAreSerializable(t *testing.T) {
	client := etcd.Client(t)
	batched := 0
	rapid.Check(t, func(rt *rapid.T) {
		prefix := etcd.Prefix(t)
		key := func(k int) string { return fmt.Sprintf("%s/%d", prefix, k) }
		total := rapid.IntRange(2, 40).Draw(rt, "total")
		steps := rapid.SliceOfN(genStep(total), total, total).Draw(rt, "steps")
		c := commit.New(commit.Config{KV: client, Depth: rapid.IntRange(1, 3).Draw(rt, "depth"),
			MaxTxns: rapid.IntRange(1, 16).Draw(rt, "transactions")})
		var o outcomes
		for n, s := range steps {
			o.submit(c, n, s.txn(n, key))
		}
		all := o.wait(t)
		c.Close(within(t))
		batched += replay(rt, steps, all)
	})
	if batched == 0 {
		t.Error("no two writes ever shared a request: the test shows nothing")
	}
}

// replay applies the steps in the order of their revisions, those that wrote
// first: what only read at a revision read after what was written at it. It
// returns how many writes shared a revision with another.
func replay(t *rapid.T, steps []step, all map[int]outcome) (batched int) {
	order := make([]int, 0, len(steps))
	for n, o := range all {
		if o.err != nil {
			t.Fatalf("step %d: %v", n, o.err)
		}
		order = append(order, n)
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(all[a].result.Revision, all[b].result.Revision),
			cmp.Compare(readOnly(all[a].result), readOnly(all[b].result)), cmp.Compare(a, b))
	})
	state := map[int]string{}
	writtenBy, rev := map[int]int{}, int64(0)
	for _, n := range order {
		s, r := steps[n], all[n].result
		if r.Revision != rev {
			clear(writtenBy)
			rev = r.Revision
		} else if readOnly(r) == 0 {
			batched++
		}
		if holds := state[s.guard] == s.expect; holds != r.Succeeded {
			t.Fatalf("step %d at revision %d: key %d is %q, expected %q, but etcd said %t", n, r.Revision, s.guard, state[s.guard], s.expect, r.Succeeded)
		}
		for i, k := range s.reads {
			if got := value(r, i); got != state[k] {
				t.Fatalf("step %d at revision %d: read %q from key %d, want %q", n, r.Revision, got, k, state[k])
			}
		}
		writes, removes := s.then, false
		if !r.Succeeded {
			writes, removes = s.orElse, s.removes
		}
		for _, k := range writes {
			if by, twice := writtenBy[k]; twice {
				t.Fatalf("steps %d and %d wrote key %d at one revision", by, n, k)
			}
			if removes {
				delete(state, k)
				continue
			}
			writtenBy[k] = n
			state[k] = fmt.Sprint(n)
		}
	}
	return batched
}

func value(r commit.Result, i int) string {
	kvs := r.Responses[i].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return ""
	}
	return string(kvs[0].Value)
}

// readOnly is 0 for a transaction that changed something, and 1 for others.
func readOnly(r commit.Result) int {
	for _, op := range r.Responses {
		if op.GetResponsePut() != nil || op.GetResponseDeleteRange().GetDeleted() > 0 {
			return 0
		}
	}
	return 1
}
