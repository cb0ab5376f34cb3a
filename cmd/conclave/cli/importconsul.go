package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/importer"
)

// consulTime bounds the one answer that an agent gives.
const consulTime = 5 * time.Minute

// consulAPI asks an agent. The certificates of the global flags are etcd's, so that https
// trusts the system's authorities.
func (*app) consulAPI(ctx context.Context, addr, tokenFile, datacenter, prefix string) (importer.Found, error) {
	token, err := secretIn("token-file", tokenFile)
	if err != nil {
		return importer.Found{}, err
	}
	c := &http.Client{Timeout: consulTime}
	defer c.CloseIdleConnections()
	return importer.FromConsul(ctx, c, addr, token, datacenter, prefix)
}
