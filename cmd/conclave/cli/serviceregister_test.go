//go:build linux

package cli_test

import (
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// An instance comes back after a restart of its host and etcd, after the loss of
// its lease and after a deletion, and its command runs on.
func TestServiceRegisterComesBack(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		c := h.client()
		const prefix = allKeys + "discovery/web/instance/"
		stands := func() *clientv3.GetResponse {
			resp, err := c.Get(t.Context(), prefix, clientv3.WithPrefix())
			if err != nil || len(resp.Kvs) != 1 || strings.Contains(string(resp.Kvs[0].Value), `"state":"left"`) {
				return nil
			}
			return resp
		}
		back := func(what string) int64 {
			t.Helper()
			var lease int64
			eventually(t, what, func() bool {
				resp := stands()
				if resp == nil {
					return false
				}
				lease = resp.Kvs[0].Lease
				ttl, err := c.TimeToLive(t.Context(), clientv3.LeaseID(lease))
				return err == nil && ttl.TTL > 0
			})
			return lease
		}
		cmd := h.under("service register web --addr h:1 --ttl 5s", "exec sleep 600")
		lease := back("registered")
		if _, err := c.Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
			t.Fatal(err)
		}
		if next := back("registered after its lease was lost"); next == lease {
			t.Errorf("lease %x came back", lease)
		}
		if _, err := c.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		back("registered after a deletion")
		h.restart()
		back("registered after a restart")
		if _, err := c.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
			t.Fatal(err)
		}
		back("looked after by the next host")
		h.signal(cmd, syscall.SIGTERM)
		if code := h.code(cmd); code != 143 {
			t.Errorf("exit code %d", code)
		}
		eventually(t, "nothing left but a farewell", func() bool { return stands() == nil })
	})
}
