package embedded

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3rpc"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy/adapter"
)

// Direct is the member's API for a caller in its own process.
type Direct struct {
	KV    pb.KVClient    // keys
	Lease pb.LeaseClient // leases
	Watch pb.WatchClient // changes
}

// Direct returns the member's API for a caller in its own process: calls are function calls, and streams hand messages over. The keys and values
// of what a watch tells are etcd's own memory, shared by all who watch: they are read, and never written.
func (m *Member) Direct() Direct {
	s := m.server.etcd.Server
	d := Direct{
		KV:    adapter.KvServerToKvClient(v3rpc.NewQuotaKVServer(s)),
		Lease: adapter.LeaseServerToLeaseClient(v3rpc.NewQuotaLeaseServer(s)),
		Watch: m.watches,
	}
	d.KV, d.Lease = kvNotStranded{d.KV, m.server.writes}, leaseNotStranded{d.Lease, m.server.writes}
	d.KV, d.Lease = kvWithLogin{d.KV, m.login}, leaseWithLogin{d.Lease, m.login}
	return d
}

// DirectClient returns a client over Direct, for the rest of etcd's API over the loopback connection. It ends with the
// member; closing it ends its own watches and renewals.
func (m *Member) DirectClient() *clientv3.Client {
	d := m.Direct()
	c := clientv3.NewCtxClient(context.Background(), clientv3.WithZapLogger(m.server.log))
	c.KV = clientv3.NewKVFromKVClient(d.KV, c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(d.Lease, c, time.Second)
	c.Watcher = clientv3.NewWatchFromWatchClient(d.Watch, c)
	c.Username, c.Password = m.cfg.Username, m.cfg.Password
	c.Cluster, c.Maintenance, c.Auth = m.client.Cluster, m.client.Maintenance, m.client.Auth
	return c
}
