package session

import (
	"context"
	"net"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/conclavehq/conclave/core/recipe"
)

// identityOf returns who called, as the host found out; empty while
// authentication is off.
func identityOf(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, recipe.MetaIdentity); len(v) > 0 {
		return v[0]
	}
	return ""
}

// addressOf returns the caller's address, for people.
func addressOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return "unknown"
	}
	if p.Addr.Network() == "unix" {
		return "local"
	}
	return p.Addr.String()
}

// isLocal says whether an address is of this machine for certain.
func isLocal(a net.Addr) bool {
	switch a.Network() {
	case "unix":
		return true
	case "tcp", "tcp4", "tcp6":
		host, _, err := net.SplitHostPort(a.String())
		ip := net.ParseIP(host)
		return err == nil && ip != nil && ip.IsLoopback()
	default:
		return false
	}
}
