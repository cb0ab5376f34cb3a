package plugins

import (
	"context"
	"crypto/tls"
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
)

// carried is a recipe on go-plugin's server.
type carried struct {
	goplugin.NetRPCUnsupportedPlugin

	control *control
	secret  *tls.Config
}

// dialSocket reaches the host's etcd by a socket instead of the broker.
func dialSocket(path string, secret *tls.Config) (*grpc.ClientConn, error) {
	if secret == nil {
		return nil, errors.New("etcd_address: the process has no keys for it")
	}
	return grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(credentials.NewTLS(secret)), grpc.WithAuthority(secret.ServerName),
		grpc.WithIdleTimeout(0))
}

// GRPCServer implements goplugin.GRPCPlugin.
func (c *carried) GRPCServer(broker *goplugin.GRPCBroker, s *grpc.Server) error {
	c.control.dial = func(r *pluginv1.OpenRequest) (*grpc.ClientConn, error) {
		if r.GetEtcdAddress() != "" {
			return dialSocket(r.GetEtcdAddress(), c.secret)
		}
		// A connection that rests is a connection that is gone, for whoever watches it.
		return broker.DialWithOptions(r.GetBrokerId(), grpc.WithIdleTimeout(0))
	}
	pluginv1.RegisterControlServiceServer(s, c.control)
	return nil
}

// GRPCClient implements goplugin.GRPCPlugin; the host has its own.
func (*carried) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("a recipe's process has no client")
}

// quiet is go-plugin's own logger: only what went wrong.
func quiet(w io.Writer) hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Error, Output: w, JSONFormat: true})
}
