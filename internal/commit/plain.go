package commit

import (
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxDistrust bounds for how many batches refusals count.
const maxDistrust = 64

// plain tells whether to try the batch as one transaction without nested ones,
// of which each costs etcd about as much as what it does.
func (c *Committer) plain(batch []*item) bool {
	cmps, then := 0, 0
	for _, i := range batch {
		if !i.txn.Likely {
			return false
		}
		cmps, then = cmps+len(i.txn.If), then+len(i.txn.Then)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wait = max(c.wait-1, 0)
	return c.wait == 0 && max(cmps, then) <= c.maxOps
}

// sendPlain sends the batch as one transaction that applies all members or none.
// It reports false if etcd refused that: then nothing was applied.
func (c *Committer) sendPlain(batch []*item) bool {
	ifs, thens := 0, 0
	for _, i := range batch {
		ifs, thens = ifs+len(i.txn.If), thens+len(i.txn.Then)
	}
	cmps, then := make([]clientv3.Cmp, 0, ifs), make([]clientv3.Op, 0, thens) // large ones: to grow shows in profiles
	for _, i := range batch {
		cmps, then = append(cmps, i.txn.If...), append(then, i.txn.Then...)
	}
	resp, err := c.commit(c.ctx, cmps, then, nil)
	switch {
	case err != nil && !definite(err):
		fail(batch, Classify(err))
		return true
	case err != nil:
		c.apart(batch, max(ifs, thens), err)
		return true
	}
	c.trust(resp.Succeeded)
	if !resp.Succeeded {
		return false
	}
	rest := resp.Responses
	for _, i := range batch {
		n := len(i.txn.Then)
		i.done(Result{Succeeded: true, Revision: resp.Header.Revision, Responses: rest[:n:n]}, nil)
		rest = rest[n:]
	}
	return true
}

// trust notes how a plain batch went. A refusal doubles the number of batches
// that are not tried like this, a success halves it.
func (c *Committer) trust(taken bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if taken {
		c.distrust /= 2
		return
	}
	c.distrust = min(2*c.distrust+1, maxDistrust)
	c.wait = c.distrust + 1
}
