"""The model that serves: encoder, calibrated trees and layer. It imports no contract, so the sidecar can use it."""
