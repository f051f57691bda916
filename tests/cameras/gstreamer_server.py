"""GStreamer's RTSP server with one H.264 file at /test, and the same with a tone in Opus at /opus, for the tests.
Prints its port."""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
VIDEO = (
    f"multifilesrc location={sys.argv[1]} loop=true ! h264parse config-interval=0 "
    "! video/x-h264,framerate=25/1 ! rtph264pay name=pay0 pt=96"
)
OPUS = "audiotestsrc freq=440 ! audio/x-raw,rate=48000 ! opusenc ! rtpopuspay name=pay1 pt=97"


def configure(_factory, media):
    """The parser of a raw stream sets decoding times alone, and without B-frames they are those of presentation."""

    def stamp(_pad, info):
        buffer = info.get_buffer()
        buffer.pts = buffer.dts
        return Gst.PadProbeReturn.OK

    pad = media.get_element().get_by_name("pay0").get_static_pad("sink")
    pad.add_probe(Gst.PadProbeType.BUFFER, stamp)


for path, pipeline in {"/test": f"( {VIDEO} )", "/opus": f"( {VIDEO} {OPUS} )"}.items():
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(pipeline)
    factory.connect("media-configure", configure)
    server.get_mount_points().add_factory(path, factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
