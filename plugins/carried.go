package plugins

import (
	"context"
	"errors"
	"io"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
)

// carried is a recipe on go-plugin's server.
type carried struct {
	goplugin.NetRPCUnsupportedPlugin

	control *control
}

// GRPCServer implements goplugin.GRPCPlugin.
func (c *carried) GRPCServer(broker *goplugin.GRPCBroker, s *grpc.Server) error {
	c.control.dial = func(r *pluginv1.OpenRequest) (*grpc.ClientConn, error) {
		if r.GetBrokerId() == 0 {
			return nil, errors.New("broker_id: is 0")
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
