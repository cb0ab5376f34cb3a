package commit

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func (c *Committer) send(batch []*item) {
	if len(batch) == 1 {
		i := batch[0]
		i.done(c.one(c.ctx, &i.txn))
		return
	}
	if c.plain(batch) && c.sendPlain(batch) {
		return
	}
	ops := make([]clientv3.Op, len(batch))
	for k, i := range batch {
		ops[k] = clientv3.OpTxn(i.txn.If, i.txn.Then, i.txn.Else)
	}
	resp, err := c.commit(c.ctx, nil, ops, nil)
	switch {
	case err == nil:
		for k, i := range batch {
			t := resp.Responses[k].GetResponseTxn()
			i.done(result((*clientv3.TxnResponse)(t), resp.Header), nil)
		}
	case definite(err):
		c.apart(batch, err)
	default:
		fail(batch, Classify(err))
	}
}

// apart sends each member of a batch by itself that etcd answered with an error:
// the fault of one, a dead lease for example, is not the others'.
func (c *Committer) apart(batch []*item, err error) {
	if tooManyOps(err) {
		c.lower()
	}
	for _, i := range batch {
		i.done(c.one(c.ctx, &i.txn))
	}
}

func fail(batch []*item, err error) {
	for _, i := range batch {
		i.done(Result{}, err)
	}
}

func (c *Committer) one(ctx context.Context, t *Txn) (Result, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return c.oneWithin(ctx, t)
}

// oneWithin sends a transaction with a ctx that has the timeout.
func (c *Committer) oneWithin(ctx context.Context, t *Txn) (Result, error) {
	resp, err := c.txn(ctx, t.If, t.Then, t.Else)
	if err != nil {
		return Result{}, Classify(err)
	}
	return result(resp, resp.Header), nil
}

func (c *Committer) commit(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	return c.txn(ctx, cmps, then, otherwise)
}

func (c *Committer) txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	return c.cfg.KV.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
}

// lower halves the limit after the server refused a batch: its max-txn-ops is
// smaller than assumed.
func (c *Committer) lower() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.maxOps = max(c.maxOps/2, 1)
}

func result(t *clientv3.TxnResponse, header *pb.ResponseHeader) Result {
	return Result{Succeeded: t.Succeeded, Revision: header.Revision, Responses: t.Responses}
}
