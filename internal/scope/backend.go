package scope

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Backend is the part of etcd's API that a recipe can have a share in.
type Backend struct {
	KV    pb.KVClient
	Lease pb.LeaseClient
	Watch pb.WatchClient
}

// FromClient returns the API behind c, which has a connection of its own: reads
// are repeated, and tokens refreshed, as c does it. It ends with c.
func FromClient(c *clientv3.Client) Backend {
	return Backend{
		KV:    clientv3.RetryKVClient(c),
		Lease: clientv3.RetryLeaseClient(c),
		Watch: pb.NewWatchClient(c.ActiveConnection()),
	}
}
