package commit

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Txn is one guarded transaction.
type Txn struct {
	// Scope names what the transaction reads or writes, coarsely: two
	// transactions that touch a common key must have a common scope.
	Scope []string
	If    []clientv3.Cmp
	Then  []clientv3.Op
	Else  []clientv3.Op
	// Likely says that the comparisons will almost certainly hold. It changes
	// what the transaction costs, and nothing else.
	Likely bool
}

// A Result is etcd's answer to one transaction.
type Result struct {
	// Succeeded tells which branch was taken.
	Succeeded bool
	// Revision is the store's revision after the request; what the
	// transaction wrote has it as its mod revision.
	Revision int64
	// Responses are those of the branch taken, in order.
	Responses []*pb.ResponseOp
}

// Nested returns the result of the i-th operation, which was a transaction.
func (r Result) Nested(i int) Result {
	t := r.Responses[i].GetResponseTxn()
	return Result{Succeeded: t.GetSucceeded(), Revision: r.Revision, Responses: t.GetResponses()}
}

// ops counts a transaction as etcd's checkTxnRequest does: the longest list at
// each level, and below it the largest nested transaction.
func ops(cmps int, branches ...[]clientv3.Op) int {
	own, below := cmps, 0
	for _, branch := range branches {
		own = max(own, len(branch))
		for _, op := range branch {
			if op.IsTxn() {
				c, t, e := op.Txn()
				below = max(below, ops(len(c), t, e))
			}
		}
	}
	return own + below
}

func (t *Txn) ops() int { return ops(len(t.If), t.Then, t.Else) }

// size estimates the bytes of the request, for the bound on a batch.
func (t *Txn) size() int { return size(t.If, t.Then, t.Else) }

func size(cmps []clientv3.Cmp, branches ...[]clientv3.Op) int {
	const overhead = 16
	n := 0
	for i := range cmps {
		n += 2*len(cmps[i].KeyBytes()) + len(cmps[i].ValueBytes()) + overhead
	}
	for _, branch := range branches {
		for _, op := range branch {
			n += len(op.KeyBytes()) + len(op.RangeBytes()) + len(op.ValueBytes()) + overhead
			if op.IsTxn() {
				c, t, e := op.Txn()
				n += size(c, t, e)
			}
		}
	}
	return n
}
