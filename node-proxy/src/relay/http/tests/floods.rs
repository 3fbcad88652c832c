//! What a client sends to hurt, frame by frame, and what one that stops reading holds up.
