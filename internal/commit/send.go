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
	ops, widest := make([]clientv3.Op, len(batch)), 0
	for k, i := range batch {
		ops[k], widest = clientv3.OpTxn(i.txn.If, i.txn.Then, i.txn.Else), max(widest, i.txn.ops())
	}
	resp, err := c.commit(c.ctx, nil, ops, nil)
	switch {
	case err == nil:
		for k, i := range batch {
			t := resp.Responses[k].GetResponseTxn()
			i.done(result((*clientv3.TxnResponse)(t), resp.Header), nil)
		}
	case definite(err):
		c.apart(batch, len(batch)+widest, err)
	default:
		fail(batch, Classify(err))
	}
}

// apart sends a batch in halves that etcd answered with an error: the fault of one,
// a dead lease for example, is not the others'. It counted as size operations.
func (c *Committer) apart(batch []*item, size int, err error) {
	if tooManyOps(err) {
		c.lower(size)
	}
	half := len(batch) / 2
	c.send(batch[:half])
	c.send(batch[half:])
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

func result(t *clientv3.TxnResponse, header *pb.ResponseHeader) Result {
	return Result{Succeeded: t.Succeeded, Revision: header.Revision, Responses: t.Responses}
}
