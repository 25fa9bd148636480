package limits

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// HTTP fetches body n times from a server in this process that does nothing but send it, over
// loopback and several clients at a time, and returns how long that took: the least that any server
// on net/http needs for answers of this size.
func HTTP(ctx context.Context, n, clients int, body []byte) (took time.Duration, err error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	})}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	defer func() {
		err = errors.Join(err, server.Close())
		if e := <-ended; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	bufs, failed := make([][]byte, clients), make([]error, clients)
	for c := range bufs {
		bufs[c] = make([]byte, len(body))
	}
	took = Share(n, clients, func(c int) {
		if failed[c] == nil {
			failed[c] = fetch(ctx, client, "http://"+l.Addr().String(), bufs[c])
		}
	})
	return took, errors.Join(failed...)
}

// fetch reads an answer that fills buf.
func fetch(ctx context.Context, c *http.Client, url string, buf []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.ContentLength != int64(len(buf)) {
		return fmt.Errorf("the answer has %d bytes in place of %d", res.ContentLength, len(buf))
	}
	_, err = io.ReadFull(res.Body, buf)
	return err
}
