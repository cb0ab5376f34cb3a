package embedded

import pb "go.etcd.io/etcd/api/v3/etcdserverpb"

// Leads reports whether this member leads its cluster, as far as it knows.
func (m *Member) Leads() bool {
	s := m.server.etcd.Server
	return s.Leader() == s.MemberID()
}

// NoSpace reports whether a member of the cluster has reached its quota, so that etcd takes no writes. It asks nobody.
func (m *Member) NoSpace() bool {
	for _, a := range m.server.etcd.Server.Alarms() {
		if a.Alarm == pb.AlarmType_NOSPACE {
			return true
		}
	}
	return false
}
