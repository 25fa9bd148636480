package shards

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Consumer is a registered consumer of a stream: the name under which fan-out subscriptions are
// taken. It is metadata c/STREAMID/NAME and has no position of its own; clients keep theirs.
type Consumer struct {
	Name      string `json:"name"`
	CreatedMs int64  `json:"createdMs"`
}

// ARN is the consumer's ARN: registered again under the same name, it has another.
func (c *Consumer) ARN(s *Stream) string {
	return fmt.Sprintf("%s/consumer/%s:%d", s.ARN(), c.Name, c.CreatedMs/1000)
}

const consumerPrefix = "c/"

func (s *Stream) consumerKeys() string { return fmt.Sprintf("%s%016x/", consumerPrefix, s.ID) }

// RegisterConsumer makes a consumer; it is ACTIVE at once. A name that is taken is errs.InUse.
func (s *Stream) RegisterConsumer(ctx context.Context, name string) (*Consumer, error) {
	s.update.Lock()
	defer s.update.Unlock()
	if !s.usable() {
		return nil, s.notFound()
	}
	c := &Consumer{Name: name, CreatedMs: time.Now().UnixMilli()}
	v, err := encodeMeta(c)
	if err != nil {
		return nil, err
	}
	key := s.consumerKeys() + name
	fresh, err := s.owner.store.Meta().Txn(ctx, []Cmp{{key, 0}}, []Op{{Key: key, Value: v}})
	if err != nil {
		return nil, err
	}
	if !fresh {
		return nil, errs.New(errs.InUse, "Consumer %s under stream %s, account %s already exists.", name, s.Name, s.Account)
	}
	return c, nil
}

// Consumer finds a consumer by name.
func (s *Stream) Consumer(ctx context.Context, name string) (*Consumer, error) {
	v, rev, err := s.owner.store.Meta().Get(ctx, s.consumerKeys()+name)
	if err != nil {
		return nil, err
	}
	if rev == 0 {
		return nil, errs.New(errs.NotFound, "Consumer %s under stream %s, account %s not found.", name, s.Name, s.Account)
	}
	c := new(Consumer)
	return c, decodeMeta(v, c)
}

// Consumers lists the stream's consumers by name.
func (s *Stream) Consumers(ctx context.Context) ([]*Consumer, error) {
	var out []*Consumer
	for kv, err := range s.owner.store.Meta().Scan(ctx, s.consumerKeys()) {
		if err != nil {
			return nil, err
		}
		c := new(Consumer)
		if err := decodeMeta(kv.Value, c); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *Consumer) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// DeregisterConsumer removes a consumer.
func (s *Stream) DeregisterConsumer(ctx context.Context, name string) error {
	s.update.Lock()
	defer s.update.Unlock()
	_, err := s.owner.store.Meta().Txn(ctx, nil, []Op{{Key: s.consumerKeys() + name, Delete: true}})
	return err
}

// Watch sends on ch, without ever blocking, after records of the shard became readable or it was
// deleted. The caller calls stop when done.
func (s *Stream) Watch(sh *Shard, ch chan<- struct{}) (stop func()) {
	return s.owner.store.Log().Notify([]ShardID{sh.ID}, ch)
}
