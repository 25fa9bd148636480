package host

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/keyfile"
	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// What the rooms tell becomes log lines here, in one place. Record payloads are never logged.

func (h *Host) journalEvents() journal.Events {
	log := h.log.With().Str("component", "journal").Logger()
	return journal.Events{
		Recovered: func(segments, chunks int, records int64, took time.Duration) {
			log.Info().Int("segments", segments).Int("chunks", chunks).Int64("records", records).Dur("took", took).Msg("recovered")
		},
		TornTail: func(segment string, offset int64) {
			log.Info().Str("segment", segment).Int64("offset", offset).Msg("a write that was never acknowledged was cut off")
		},
		Upgraded: func(from, to int) {
			log.Info().Int("from", from).Int("to", to).Msg("the data folder has a newer format now; an older shardmill refuses it")
		},
		Paused: func(err error) {
			log.Error().Err(err).Msg("the disk is full; no records are taken until there is space")
		},
		Resumed: func() { log.Info().Msg("records are taken again") },
		Sealed: func(compacted bool, from, to int64) {
			log.Debug().Bool("compacted", compacted).Int64("from_bytes", from).Int64("to_bytes", to).Msg("chunk written")
		},
		SealFailed: func(err error) { log.Warn().Err(err).Msg("a segment could not be sealed; tried again until it works") },
		Damaged:    func(err error) { log.Error().Err(err).Msg("stored records are damaged") },
		Fenced:     func(err error) { log.Error().Err(err).Msg("the journal stopped taking records after a failed write") },
	}
}

// repaired tells what a repair of the data folder left out.
func (h *Host) repaired(r journal.Repaired) {
	log := h.log.With().Str("component", "journal").Logger()
	for _, f := range r.Files {
		log.Error().Str("file", f.Path).Int64("offset", f.Offset).Str("damage", f.What).Int64("records_kept", f.Kept).
			Int64("unknown_bytes", f.Unknown).Str("moved_to", f.Aside).Msg("a damaged file was replaced by what is sound in it")
	}
	for _, l := range r.Lost {
		e := log.Error().Uint64("shard_log", uint64(l.Shard)).Uint64("from", uint64(l.From)).Uint64("to", uint64(l.To))
		if l.Certain {
			e.Msg("the records at these positions are lost")
		} else {
			e.Msg("these positions are left out: some may have been given to records that are lost")
		}
	}
	log.Info().Int("damaged_files", len(r.Files)).Int("lost_ranges", len(r.Lost)).Msg("all stored records were checked")
}

func (h *Host) streamEvents() shards.Events {
	log := h.log.With().Str("component", "streams").Logger()
	return shards.Events{
		Expired: func(s *shards.Stream, reader string, sh *shards.Shard, records uint64) {
			log.Error().Str("stream", s.Name).Str("shard", sh.String()).Str("reader", reader).Uint64("records", records).
				Msg("records went out of retention before they were read")
		},
		TrimFailed: func(s *shards.Stream, err error) {
			log.Warn().Str("stream", s.Name).Err(err).Msg("expired records could not be removed; tried again in a minute")
		},
		ScaleFailed: func(s *shards.Stream, err error) {
			log.Warn().Str("stream", s.Name).Err(err).Msg("the on-demand stream could not be scaled; tried again in a minute")
		},
	}
}

func (h *Host) functionEvents() runtime.Events {
	log := h.log.With().Str("component", "functions").Logger()
	return runtime.Events{
		Log: func(function, requestID, line string) {
			h.logs.Write(function, requestID, line)
			log.Info().Str("function", function).Str("request_id", requestID).Msg(line)
		},
		Platform: h.logs.Write, // there are three an invocation: too many for the host's log
		Start: func(function string, took time.Duration) {
			log.Debug().Str("function", function).Dur("took", took).Msg("execution environment ready")
		},
		End: func(function, reason string) {
			log.Debug().Str("function", function).Str("reason", reason).Msg("execution environment ended")
		},
		Metric: h.told.take,
	}
}

func (h *Host) pluginEvents() plugins.Events {
	log := h.log.With().Str("component", "plugins").Logger()
	return plugins.Events{
		Loaded: func(name, version string, took time.Duration) {
			log.Info().Str("function", name).Str("version", short(version)).Dur("took", took).Msg("function loaded")
		},
		Swapped: func(name, old, version string, took time.Duration) {
			log.Info().Str("function", name).Str("version", short(version)).Str("old", short(old)).Dur("took", took).Msg("function replaced")
		},
		Refused: func(name, path string, err error) {
			log.Error().Str("function", name).Str("path", path).Err(err).Msg("not loaded")
		},
		Removed: func(name string) { log.Info().Str("function", name).Msg("function removed") },
		Closed: func(name, version string, err error) {
			log.WithLevel(levelOf(err)).Str("function", name).Str("version", short(version)).Err(err).Msg("old version closed")
		},
		Directory: func(err error) {
			log.WithLevel(max(levelOf(err), zerolog.InfoLevel)).Str("path", h.cfg.Plugins).Err(err).Msg("plugin folder")
		},
	}
}

func levelOf(err error) zerolog.Level {
	if err != nil {
		return zerolog.WarnLevel
	}
	return zerolog.DebugLevel
}

func short(version string) string { return version[:min(12, len(version))] }

func (h *Host) mappingEvents() eventsource.Events {
	log := h.log.With().Str("component", "mappings").Logger()
	return eventsource.Events{
		Discarded: func(m *eventsource.Mapping, f *eventsource.Failure) {
			log.Warn().Str("mapping", m.UUID).Str("shard", f.ShardID).Int("records", f.Records).Str("condition", f.Condition).Msg("records were given up")
		},
		Skipped: func(m *eventsource.Mapping, sh *shards.Shard, records uint64) {
			log.Error().Str("mapping", m.UUID).Str("shard", sh.String()).Uint64("records", records).Msg("records went out of retention before they were read")
		},
		Failed: func(m *eventsource.Mapping, err error) {
			log.Warn().Str("mapping", m.UUID).Err(err).Msg("the mapping cannot go on just now; it tries again")
		},
	}
}

func (h *Host) deliveryEvents() firehose.Events {
	log := h.log.With().Str("component", "firehose").Logger()
	of := func(e *zerolog.Event, d *firehose.DeliveryStream) *zerolog.Event {
		e.Str("delivery", d.Name)
		if d.Logging != nil {
			e.Str("log_group", d.Logging.Group).Str("log_stream", d.Logging.Stream)
		}
		return e
	}
	return firehose.Events{
		Delivered: func(d *firehose.DeliveryStream, batch uint64, what firehose.Delivered) {
			of(log.Debug(), d).Uint64("batch", batch).Int("records", what.Records).Int("ok", what.Ok).
				Int("dropped", what.Dropped).Int("failed", what.Failed).Int("attempts", what.Attempts).Dur("took", what.Took).Msg("delivered")
			if h.watch.Delivered != nil {
				h.watch.Delivered(d.Name, what)
			}
		},
		Retry: func(d *firehose.DeliveryStream, batch uint64, attempt int, err error) {
			of(log.Warn(), d).Uint64("batch", batch).Int("attempt", attempt).Err(err).Msg("delivery failed; it is tried again until it works")
		},
		Transform: func(d *firehose.DeliveryStream, attempt int, last bool, err error) {
			e := of(log.Warn(), d)
			if last {
				e = of(log.Error(), d)
			}
			e.Int("attempt", attempt).Bool("last", last).Err(err).Msg("transform failed")
		},
		Stopped: func(d *firehose.DeliveryStream, err error) {
			of(log.Error(), d).Err(err).Msg("delivery has stopped")
		},
	}
}

func (h *Host) requestFailed(requestID, operation string, err error) {
	h.log.Error().Str("component", "api").Str("request_id", requestID).Str("operation", operation).Err(err).Msg("request failed")
}

func (h *Host) keyEvents() keyfile.Events {
	log := h.log.With().Str("component", "auth").Str("path", h.cfg.KeyFile).Logger()
	return keyfile.Events{
		Reloaded: func(keys int) { log.Info().Int("keys", keys).Msg("key file read again") },
		Failed: func(err error) {
			log.Error().Err(err).Msg("the changed key file is wrong; the keys from before stay good")
		},
	}
}

func (h *Host) kmsEvents() localkms.Events {
	log := h.log.With().Str("component", "keys").Str("path", h.cfg.KMSKeys).Logger()
	return localkms.Events{
		Reloaded: func(keys int) { log.Info().Int("keys", keys).Msg("states of encryption keys read again") },
		Failed: func(err error) {
			log.Error().Err(err).Msg("the changed file of key states is wrong; the states from before stay in use")
		},
	}
}
